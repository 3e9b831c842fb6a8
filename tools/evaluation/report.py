"""The evaluation report of a release: metrics.json for programs, index.html for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tools.evaluation.comparison import METRICS, QUESTION, RANKS, write_comparison
from tools.evaluation.evaluation import RERANK, STAGES, Evaluation
from tools.evaluation.figures import Figures, compute_figures, target_ranks
from tools.evaluation.numbers import FILTERS, page_template
from tools.evaluation.plots import draw
from tools.evaluation.style import data_uri, looks

__all__ = ["Evaluation", "write_report"]

TEMPLATE = Path(__file__).with_name("page.html.jinja")

_STAGE_NOTES = {
    "retrieve": "candidates in the order of retrieval",
    "rank": "the same candidates, reordered",
    "rerank": "the page, diversity 0",
    "rerank (default diversity)": "the page as served by default",
}

_METRIC_NAMES = {"ndcg_10": "NDCG@10", "ndcg_20": "NDCG@20", "hit_rate_10": "HR@10", "hit_rate_20": "HR@20"}

_PLACES = "places"
"""Stands for the number of places that the figures beyond accuracy look at."""

_COLUMNS = (
    # key in metrics.json, heading, its cut-off, how figures are written, whether more is better
    ("ndcg_10", "NDCG", 10, "three", True),
    ("ndcg_20", "NDCG", 20, "three", True),
    ("hit_rate_10", "HR", 10, "three", True),
    ("recall_100", "Recall", 100, "three", True),
    ("recall_500", "Recall", 500, "three", True),
    ("mrr_20", "MRR", 20, "three", True),
    ("coverage_20", "Coverage", _PLACES, "percent", True),
    ("novelty_20", "Novelty", _PLACES, "two", False),
    ("popularity_percentile_20", "Popularity percentile", None, "one", False),
    ("diversity_20", "Diversity", _PLACES, "three", False),
)


def write_report(evaluation: Evaluation, folder: Path) -> Figures:
    """Write the report of a release into `folder`, and return what metrics.json holds.

    ``metrics.json`` has every figure with its interval, ``index.html`` is one self-contained page, and
    ``ranks.npz`` has per method the rank of each test user's target (`metrics.ranks`), and as "question" what
    the user was asked, so that releases can be compared user by user; ``compared.npz`` has the ranks of the
    release that was active meanwhile, if there was one. The same evaluation gives the same bytes.
    """
    figures = compute_figures(evaluation)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / METRICS).write_text(text + "\n", encoding="utf-8")
    (folder / "index.html").write_text(render_page(figures, draw(figures)), encoding="utf-8")
    kept = target_ranks(evaluation)
    if evaluation.questions is not None:
        kept[QUESTION] = evaluation.questions[evaluation.targets > 0]
    np.savez_compressed(folder / RANKS, **kept)
    if evaluation.compared is not None:
        write_comparison(folder, evaluation.compared.release, evaluation.compared.ranks)
    return figures


def render_page(figures: Figures, plots: Mapping[str, str]) -> str:
    """The report's page as HTML that makes no request; `plots` are SVG documents by name (`plots.draw`)."""
    return page_template(TEMPLATE).render(
        figures=figures,
        headline=figures["headline"],
        served=figures["methods"][RERANK],
        table=_table(figures),
        looks=looks(figures["methods"]),
        metric_names=_METRIC_NAMES,
        plots={name: data_uri(svg) for name, svg in plots.items()},
        stage_names=STAGES,
    )


def _table(figures: Figures) -> dict[str, Any]:
    """The table of all methods: headings, and per method its cells: text, interval, is it the best."""
    best = {key: _best(figures, key) for key, *_, more_is_better in _COLUMNS if more_is_better}
    rows = []
    for name, method in figures["methods"].items():
        cells = []
        for key, _, _, style, _ in _COLUMNS:
            value = method[key]
            mean = _mean(value)
            spread = f"± {FILTERS[style](value['high'] - mean)}" if isinstance(value, dict) and mean else ""
            is_best = mean is not None and mean == best.get(key)
            cells.append({"text": FILTERS[style](mean), "spread": spread, "best": is_best})
        rows.append(
            {"name": name, "note": _STAGE_NOTES.get(name, ""), "kind": method["kind"], "cells": cells}
        )
    headings = [(head, figures["places"] if k == _PLACES else k) for _, head, k, _, _ in _COLUMNS]
    return {"headings": headings, "rows": rows}


def _best(figures: Figures, key: str) -> float | None:
    means = (_mean(method[key]) for method in figures["methods"].values())
    return max((mean for mean in means if mean is not None), default=None)


def _mean(value: Any) -> float | None:
    mean: float | None = value["mean"] if isinstance(value, dict) else value
    return mean
