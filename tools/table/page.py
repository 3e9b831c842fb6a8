"""The page of the table of models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.evaluation.numbers import FILTERS, page_template
from tools.evaluation.style import data_uri
from tools.table.plots import KINDS
from tools.table.rows import ACCURACY, PLACES

TEMPLATE = Path(__file__).with_name("page.html.jinja")

_HEADINGS = {
    "ndcg": "NDCG",
    "dcg": "DCG",
    "hit_rate": "HR",
    "mrr": "MRR",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
}


def render_page(table: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """The page as HTML that makes no request; `plots` are SVG documents by name (`plots.draw`)."""
    best = {}
    for key in ACCURACY:
        means = [row[key]["mean"] for row in table["rows"] if row[key]]
        best[key] = max(means, default=None)
    template = page_template(TEMPLATE)
    template.environment.filters["number"] = lambda value, style: FILTERS[style](value)
    rendered: str = template.render(
        table=table,
        accuracy=[(key, *_heading(key)) for key in ACCURACY],
        best=best,
        clicks=[row for row in table["rows"] if row["clicks"]],
        kinds=KINDS,
        places=PLACES,
        plots={name: data_uri(svg) for name, svg in plots.items()},
    )
    return rendered


def _heading(key: str) -> tuple[str, int]:
    name, _, cutoff = key.rpartition("_")
    return _HEADINGS[name], int(cutoff)
