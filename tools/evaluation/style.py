"""How the report's plots look: one colour, dash and marker per method, wherever it appears."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.evaluation.evaluation import RANK, RERANK, RERANK_DEFAULT, RETRIEVE

INK = "#1d2433"
FAINT = "#5c6675"
GRID = "#e3e6eb"

_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "tritonrec",  # the same figures give the same bytes
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.9,
    "lines.markersize": 5.5,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Look:
    """How one method is drawn. Dashes and markers repeat what colour says, for those who do not see it."""

    colour: str
    dash: str = "-"
    marker: str = "o"


# Blues and greens for the pipeline, warm colours and grey for the baselines; after Okabe & Ito (2008),
# darkened to a contrast of 3:1 against white.
_LOOKS = {
    RETRIEVE: Look("#3a93cf", "-", "o"),
    RANK: Look("#0059a3", "-", "s"),
    RERANK: Look("#14213d", "-", "D"),
    RERANK_DEFAULT: Look("#008a63", "-", "^"),
    "popularity": Look("#757575", ":", "v"),
    "ItemKNN": Look("#c27c00", "--", "P"),
    "EASE": Look("#c9470a", "-.", "X"),
}
_OTHERS = (Look("#a6487f", "--", "<"), Look("#6b4fa0", ":", ">"), Look("#7a5c3e", "-.", "p"))


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """A look per method; methods without one of their own take the spare ones in turn."""
    chosen: dict[str, Look] = {}
    spare = 0
    for method in methods:
        if method in _LOOKS:
            chosen[method] = _LOOKS[method]
        else:
            chosen[method] = _OTHERS[spare % len(_OTHERS)]
            spare += 1
    return chosen


def applied() -> AbstractContextManager[None]:
    """A context in which Matplotlib draws in the report's style."""
    return matplotlib.rc_context(_SETTINGS)


def new_figure(
    rows: int = 1, columns: int = 1, width: float = 6.0, height: float = 4.0
) -> tuple[Figure, list[Axes]]:
    """A figure of `width` × `height` inches, and its axes in reading order."""
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [axes for row in grid for axes in row]


def legend_below(figure: Figure, axes: Axes, columns: int = 3) -> None:
    """One legend under the plot, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.6)


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document, without a date and with ids that do not change between runs."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def data_uri(svg: str) -> str:
    """`svg` as the address of an image that needs no request."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
