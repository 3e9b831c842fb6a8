from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from tools.table.page import render_page
from tools.table.plots import draw
from tools.table.rows import Answer, Ground, Kind, row_of

USERS, ITEMS = 60, 600
MODELS: tuple[tuple[str, Kind], ...] = (
    ("transformer", "channel"),
    ("ease", "channel"),
    ("merge", "merge"),
    ("dnn", "ranker"),
    ("main", "ranker"),
    ("blend", "blend"),
)


class Balance(HTMLParser):
    """Counts tags that are open."""

    VOID = frozenset({"meta", "img", "br", "link", "hr", "wbr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def made_up_table(*, served: bool = True) -> dict[str, Any]:
    random = np.random.default_rng(0)
    ground = Ground(
        random.integers(1, ITEMS + 1, USERS).astype(np.int32),
        np.concatenate([[0], random.integers(1, 50, ITEMS)]),
        random.normal(size=(ITEMS + 1, 4)),
    )
    rows = []
    for number, (name, kind) in enumerate(MODELS):
        candidates = np.argsort(random.random((USERS, ITEMS)), axis=1)[:, :500].astype(np.int32) + 1
        scores = random.normal(size=candidates.shape).astype(np.float32)
        link = ("list" if name == "main" else "each") if kind == "ranker" else None
        more = {
            "training_seconds": 61.0 if kind == "ranker" else None,
            "latency_ms": {"p50": 1.5 + number, "p99": 2.5 + number} if served else None,
            "bytes": 1_234_567,
            "agreement": {"different_lists": 0, "score_difference": 1e-7, "holds": True, "users": USERS},
        }
        rows.append({**row_of(Answer(name, name, kind, candidates, scores, link), ground), **more})
    gap = {"mean": 0.01, "low": -0.002, "high": 0.022}
    return {
        "release": "0123456789ab",
        "name": "made-up",
        "seed": 1,
        "judged_by": "validation",
        "machine": "1 × processor",
        "users": USERS,
        "test_users": USERS,
        "candidates": 500,
        "rows": rows,
        "merged": {
            "places": 500,
            "recall": {"transformer": {"alone": 0.9, **gap}},
            "ranked": {"release": "ba9876543210", "merged": 0.11, "single": 0.1, "difference": gap},
        },
        "sections": [
            {"title": "Cold <start>", "caption": "By bucket", "headings": ["a", "b"], "lines": [["x", "1"]]}
        ],
    }


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    return made_up_table()


@pytest.fixture(scope="module")
def plots(table: dict[str, Any]) -> dict[str, str]:
    return draw(table["rows"])


@pytest.fixture(scope="module")
def page(table: dict[str, Any], plots: dict[str, str]) -> str:
    return render_page(table, plots)


def test_the_page_is_whole_and_makes_no_request(page: str) -> None:
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    addresses = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert addresses
    assert all(address.startswith("data:") for address in addresses)


def test_every_model_is_in_the_tables_of_accuracy_and_cost(page: str) -> None:
    for name, kind in MODELS:
        rows = re.findall(rf"</span>{name}<small>{kind}</small>", page)
        assert len(rows) == (3 if kind == "ranker" else 2)


def test_every_figure_that_was_promised_has_a_column(page: str) -> None:
    words = re.sub(r"<wbr>|<[^>]+>", "", page.replace("</th>", "|"))
    for heading in (
        *("NDCG@10", "DCG@10", "HR@10", "MRR@10", "Precision@10", "Recall@10", "F1@10"),
        *("Recall@100", "Recall@500", "Coverage", "Novelty, bits", "Popularity percentile", "Diversity"),
        *("Training", "p50, ms", "On disk", "Served = in process", "AUC", "Log-loss", "Accuracy"),
    ):
        assert f"|{heading}|" in words.replace("\n", "") or f"{heading}|" in words


def test_the_best_of_a_column_is_bold(table: dict[str, Any], page: str) -> None:
    best = max(row["ndcg_10"]["mean"] for row in table["rows"])
    assert f'<td class="best">{best:.3f}<small>' in page


def test_what_merging_gains_is_said_with_its_interval(page: str) -> None:
    assert "+0.0100 (−0.0020 to +0.0220, paired)" in page


def test_the_page_says_by_what_models_are_judged(page: str) -> None:
    assert "have a validation item" in page
    assert "test item" not in page


def test_text_of_sections_cannot_break_the_page(page: str) -> None:
    assert "<h2>Cold &lt;start&gt;</h2>" in page


def test_without_latencies_there_is_no_plot_of_them() -> None:
    table = made_up_table(served=False)
    plots = draw(table["rows"])
    assert set(plots) == {"ndcg_bars", "recall_curves", "coverage_and_accuracy"}
    assert "Latency and accuracy" not in render_page(table, plots)


def test_the_same_figures_give_the_same_bytes(table: dict[str, Any], plots: dict[str, str]) -> None:
    assert draw(table["rows"]) == plots
