from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tools.evaluation import metrics
from tools.evaluation.evaluation import RANK, RERANK, RERANK_DEFAULT, RETRIEVE, STAGES, Evaluation
from tools.evaluation.figures import compute_figures
from tools.evaluation.plots import PLOTS, draw
from tools.evaluation.report import render_page, write_report

Make = Callable[..., Evaluation]

NO_PLOTS = dict.fromkeys(PLOTS, "<svg/>")
"""Stands in for plots where only the text is looked at; drawing takes a second."""


@pytest.fixture(scope="module")
def folder(make_evaluation: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "report"
    write_report(make_evaluation(), folder)
    return folder


@pytest.fixture(scope="module")
def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def test_metrics_json_is_what_is_returned(make_evaluation: Make, figures: dict[str, Any]) -> None:
    assert compute_figures(make_evaluation()) == figures


def test_every_stage_and_baseline_has_the_same_figures(figures: dict[str, Any]) -> None:
    assert list(figures["methods"]) == [*STAGES, "popularity", "ItemKNN", "EASE"]
    assert len({tuple(method) for method in figures["methods"].values()}) == 1


def test_the_headline_is_taken_from_the_right_lists(make_evaluation: Make, figures: dict[str, Any]) -> None:
    evaluation, headline = make_evaluation(), figures["headline"]
    gains = {
        name: metrics.ndcg(metrics.ranks(ranked, evaluation.targets), 10)
        for name, ranked in evaluation.lists.items()
    }
    best = max(evaluation.baselines, key=lambda name: gains[name].mean())
    assert headline["ndcg_10"]["mean"] == pytest.approx(gains[RERANK].mean())
    assert headline["best_baseline"] == best
    assert headline["times_best_baseline"]["mean"] == pytest.approx(gains[RERANK].mean() / gains[best].mean())
    assert headline["rank_gain_ndcg_10"]["mean"] == pytest.approx((gains[RANK] - gains[RETRIEVE]).mean())
    assert headline["rank_gain_relative"]["mean"] == pytest.approx(
        gains[RANK].mean() / gains[RETRIEVE].mean() - 1
    )
    assert headline["retrieve_recall"]["k"] == 100
    assert headline["coverage_20"] == metrics.coverage(evaluation.stages[RERANK_DEFAULT], 20, 130)


def test_a_figure_beyond_the_end_of_a_list_does_not_exist(figures: dict[str, Any]) -> None:
    assert figures["methods"][RETRIEVE]["recall_100"] is not None
    assert figures["methods"][RETRIEVE]["recall_500"] is None
    assert figures["methods"][RERANK]["recall_100"] is None
    assert figures["methods"][RERANK]["recall_curve"]["k"][-1] == 20


def test_shares_of_the_tenths_add_up(figures: dict[str, Any]) -> None:
    for method in (
        *figures["methods"].values(),
        {"popularity_deciles_20": figures["history"]["popularity_deciles"]},
    ):
        assert sum(method["popularity_deciles_20"]) == pytest.approx(1)


def test_history_buckets_hold_every_test_user_once(figures: dict[str, Any]) -> None:
    buckets = figures["methods"][RERANK]["ndcg_10_by_history"]
    assert sum(bucket["users"] for bucket in buckets) == figures["data"]["test_users"] == 60
    assert all(a["longest"] < b["shortest"] for a, b in pairwise(buckets))
    mean = sum(bucket["mean"] * bucket["users"] for bucket in buckets) / 60
    assert mean == pytest.approx(figures["methods"][RERANK]["ndcg_10"]["mean"])


def test_calibration_looks_at_shown_items_of_users_with_a_target(make_evaluation: Make) -> None:
    evaluation = make_evaluation()
    page, targets = evaluation.stages[RERANK].copy(), evaluation.targets.copy()
    page[:, 15:] = 0
    targets[:10] = 0
    found = compute_figures(make_evaluation(stages={**evaluation.stages, RERANK: page}, targets=targets))
    assert sum(found["calibration"]["bins"]["count"]) == 50 * 15


def test_ranks_are_kept_per_user_for_comparisons_between_releases(
    make_evaluation: Make, folder: Path
) -> None:
    evaluation = make_evaluation()
    with np.load(folder / "ranks.npz") as kept:
        assert set(kept.files) == set(evaluation.lists)
        for name, ranked in evaluation.lists.items():
            assert np.array_equal(kept[name], metrics.ranks(ranked, evaluation.targets))


def test_the_page_makes_no_request(folder: Path) -> None:
    page = (folder / "index.html").read_text(encoding="utf-8")
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert len(addresses) == 8
    assert all(address.startswith("data:image/svg+xml;base64,") for address in addresses)
    assert "<script" not in page
    assert "@import" not in page


def test_every_picture_says_what_it_shows(folder: Path) -> None:
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert (
        len(re.findall(r'<img [^>]*alt="[^"]{20,}"', page))
        == page.count("<img ")
        == page.count("<figcaption>")
    )


def test_the_page_names_every_method_and_what_was_shipped(folder: Path, figures: dict[str, Any]) -> None:
    page = (folder / "index.html").read_text(encoding="utf-8")
    for text in (
        *figures["methods"],
        "0123456789ab",
        "Every event but each user&#39;s last.",
        "numpy",
        "1 min 01 s",
    ):
        assert text in page
    assert f"{figures['headline']['ndcg_10']['mean']:.3f}" in page


def test_text_from_outside_cannot_become_markup(make_evaluation: Make) -> None:
    page = render_page(compute_figures(make_evaluation(name="<script>alert(1)</script>")), NO_PLOTS)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_same_evaluation_gives_the_same_bytes(
    make_evaluation: Make, folder: Path, tmp_path: Path
) -> None:
    write_report(make_evaluation(), tmp_path)
    for name in ("index.html", "metrics.json", "ranks.npz"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_plots_are_well_formed_and_undated(folder: Path) -> None:
    page = (folder / "index.html").read_text(encoding="utf-8")
    for encoded in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page):
        svg = base64.b64decode(encoded).decode()
        ElementTree.fromstring(svg)
        assert "<dc:date>" not in svg


def test_a_release_without_curves_or_baselines_still_has_a_page(make_evaluation: Make) -> None:
    found = compute_figures(
        make_evaluation(curves={}, baselines={}, timings={}, skipped={"EASE": "too large"})
    )
    plots = draw(found)
    page = render_page(found, plots)
    assert found["headline"]["best_baseline"] is None
    assert "EASE is missing: too large." in page
    assert "training_curves" not in plots
    assert "Training</h3>" not in page
    assert "Latency" not in page


def test_latency_is_shown_where_it_was_measured(make_evaluation: Make) -> None:
    found = compute_figures(make_evaluation(latency={"recommend": {"p50": 5.125, "p99": 9.0}}))
    assert "<td>9.00</td>" in render_page(found, NO_PLOTS)


@pytest.mark.parametrize("places", [1, 5])
def test_pages_shorter_than_a_cut_off_are_judged_on_what_they_show(
    make_evaluation: Make, places: int
) -> None:
    evaluation = make_evaluation()
    pages = {
        name: ranked[:, :places] for name, ranked in evaluation.stages.items() if name.startswith(RERANK)
    }
    found = compute_figures(
        make_evaluation(
            stages={**evaluation.stages, **pages},
            page_probability=evaluation.page_probability[:, :places],
        )
    )
    assert found["places"] == places
    assert found["methods"][RETRIEVE]["coverage_20"] == metrics.coverage(
        evaluation.stages[RETRIEVE], places, 130
    )
    assert f"Coverage<wbr>@{places}" in render_page(found, NO_PLOTS)


def test_a_release_that_never_hits_still_has_a_page(make_evaluation: Make) -> None:
    stages = {name: np.zeros_like(ranked) for name, ranked in make_evaluation().stages.items()}
    found = compute_figures(make_evaluation(stages=stages))
    assert found["headline"]["ndcg_10"]["mean"] == 0
    assert found["headline"]["rank_gain_relative"]["mean"] is None
    assert found["methods"][RERANK]["novelty_20"]["mean"] is None
    assert "NDCG" in render_page(found, draw(found))


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"targets": np.zeros(60, dtype=np.int32)}, "no user has a target"),
        ({"stages": {}}, "stages lacks retrieve, rank, rerank"),
        (
            {"history_lengths": np.zeros(3, dtype=np.int64)},
            r"history_lengths has the shape \[3\]; expected \[60\]",
        ),
        ({"popularity": np.zeros(3, dtype=np.int64)}, r"expected \[131\]"),
        (
            {"baselines": {"mine": np.zeros((2, 5), dtype=np.int32)}},
            r"mine is \[2, 5\]; it must be \[60, K\]",
        ),
        (
            {"baselines": {"mine": np.full((60, 5), 131, dtype=np.int32)}},
            "mine holds item indices outside 0 … 130",
        ),
        (
            {"baselines": {"rank": np.zeros((60, 5), dtype=np.int32)}},
            "rank is the name of a stage and of a baseline",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    make_evaluation: Make, replaced: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_evaluation(**replaced)
