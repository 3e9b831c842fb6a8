"""The plots of the table of models; each turns its figures into an SVG document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.ticker import PercentFormatter

from tools.evaluation.style import FAINT, INK, Look, applied, legend_below, new_figure, to_svg

Row = dict[str, Any]

KINDS = {"channel": "#3a93cf", "merge": "#14213d", "ranker": "#c9470a", "blend": "#7a2048"}
"""A colour for each kind of model. What it says is repeated by the marker."""
_MARKERS = {"channel": "o", "merge": "D", "ranker": "s", "blend": "^"}
_COLOURS = ("#0059a3", "#c27c00", "#008a63", "#c9470a", "#6b4fa0")
_DASHES, _POINTS = ("-", "--", ":"), ("o", "s", "^", "D", "v", "P", "X")


def looks_of(rows: Sequence[Row]) -> dict[str, Look]:
    """A look for each of up to fifteen lines; what merges or blends is black."""
    looks = {}
    for number, row in enumerate(rows):
        turn = number // len(_COLOURS)
        colour = INK if row["kind"] in ("merge", "blend") else _COLOURS[number % len(_COLOURS)]
        looks[row["name"]] = Look(colour, _DASHES[turn % len(_DASHES)], _POINTS[number % len(_POINTS)])
    return looks


def ndcg_bars(rows: Sequence[Row]) -> str:
    """NDCG@10 of every model with its interval, the best first."""
    shown = sorted(rows, key=lambda row: -row["ndcg_10"]["mean"])
    figure, (axes,) = new_figure(height=1.0 + 0.34 * len(shown))
    reach = max(row["ndcg_10"]["high"] for row in shown) or 1.0
    for place, row in enumerate(shown):
        value = row["ndcg_10"]
        axes.barh(place, value["mean"], height=0.62, color=KINDS[row["kind"]])
        low, high = max(value["low"], 0.0), value["high"]
        axes.plot([low, high], [place, place], color=INK, linewidth=1.2, marker="|", markersize=6)
        axes.text(high + 0.015 * reach, place, f"{value['mean']:.3f}", va="center", fontsize=9)
    axes.set_yticks(range(len(shown)), [row["name"] for row in shown])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.13 * reach)
    axes.set_xlabel("NDCG@10, with 95 % interval")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        axes.barh(0, 0, color=KINDS[kind], label=kind)
    legend_below(figure, axes, columns=4)
    return to_svg(figure)


def recall_curves(rows: Sequence[Row]) -> str:
    """Recall against the length of the list, for every channel and their merge."""
    shown = [row for row in rows if row["kind"] in ("channel", "merge")]
    figure, (axes,) = new_figure(height=5.2)
    look = looks_of(shown)
    ends = max(max(row["recall_curve"]["k"]) for row in shown)
    for row in shown:
        own = look[row["name"]]
        axes.plot(
            *(row["recall_curve"]["k"], row["recall_curve"]["recall"]),
            color=own.colour,
            linestyle=own.dash,
            marker=own.marker,
            markersize=4,
            linewidth=2.4 if row["kind"] == "merge" else 1.6,
            label=row["name"],
        )
    axes.set_xscale("log")
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= ends]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("K, places of the list")
    axes.set_ylabel("recall at K")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    legend_below(figure, axes)
    return to_svg(figure)


def coverage_and_accuracy(rows: Sequence[Row]) -> str:
    """What share of the catalogue anyone gets to see, against accuracy."""
    points = [(row, row["coverage"]) for row in rows]
    return _scatter(points, "share of the catalogue in someone's first places", percent=True)


def latency_and_accuracy(rows: Sequence[Row]) -> str | None:
    """What a model costs, against what it is worth; None where no latency was measured."""
    points = [(row, row["latency_ms"]["p50"]) for row in rows if row.get("latency_ms")]
    return _scatter(points, "p50 of the model alone over gRPC, ms", log=True) if points else None


def _scatter(
    points: Sequence[tuple[Row, float]], label: str, *, percent: bool = False, log: bool = False
) -> str:
    """NDCG@10 against another figure, every mark with its name; names keep clear of each other."""
    figure, (axes,) = new_figure(height=5.2)
    if log:
        axes.set_xscale("log")
    for row, value in points:
        axes.plot(
            *(value, row["ndcg_10"]["mean"]),
            color=KINDS[row["kind"]],
            marker=_MARKERS[row["kind"]],
            markersize=8,
            markeredgecolor="white",
            linestyle="none",
        )
    top = 1.12 * max(row["ndcg_10"]["mean"] for row, _ in points)
    axes.set_ylim(0, top)
    values = [value for _, value in points]
    low, high = min(values), max(values)
    axes.set_xlim((0.8 * low, 1.8 * high) if log else (-0.02, max(1.02, high)))
    if percent:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    elif log:
        ticks = [tick for tick in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if 0.8 * low <= tick <= 1.8 * high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
    _name(axes, [(row["name"], value, row["ndcg_10"]["mean"]) for row, value in points], top)
    axes.set_xlabel(label)
    axes.set_ylabel("NDCG@10")
    for kind in dict.fromkeys(row["kind"] for row, _ in points):
        axes.plot([], [], color=KINDS[kind], marker=_MARKERS[kind], linestyle="none", label=kind)
    legend_below(figure, axes, columns=4)
    return to_svg(figure)


def _name(axes: Any, marks: Sequence[tuple[str, float, float]], top: float) -> None:
    """Write each mark's name to its right, moved up where another name is already."""
    to_axes, gap, wide = axes.transData + axes.transAxes.inverted(), 0.036 * top, 0.22
    written: list[tuple[float, float]] = []
    for name, x, y in sorted(marks, key=lambda mark: mark[2]):
        across, at = float(to_axes.transform((x, y))[0]), y
        for other, height in sorted(written, key=lambda place: place[1]):
            if abs(across - other) < wide and abs(at - height) < gap:
                at = height + gap
        written.append((across, at))
        axes.annotate(
            "   " + name,
            (x, y),
            xytext=(x, at),
            textcoords="data",
            fontsize=8,
            color=INK,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.5} if at != y else None,
        )


PLOTS: dict[str, Callable[[Sequence[Row]], str | None]] = {
    "ndcg_bars": ndcg_bars,
    "recall_curves": recall_curves,
    "coverage_and_accuracy": coverage_and_accuracy,
    "latency_and_accuracy": latency_and_accuracy,
}


def draw(rows: Sequence[Row]) -> dict[str, str]:
    """All plots by name, in the reports' style; one that has nothing to show is left out."""
    with applied():
        drawn = {name: plot(rows) for name, plot in PLOTS.items()}
    return {name: svg for name, svg in drawn.items() if svg}
