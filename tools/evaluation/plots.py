"""The report's plots: each turns the figures of `compute_figures` into an SVG document."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from tools.evaluation.evaluation import RERANK, RERANK_DEFAULT, RETRIEVE
from tools.evaluation.figures import Figures
from tools.evaluation.style import FAINT, INK, applied, legend_below, looks, new_figure, to_svg

_HALO = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
_PERCENT = PercentFormatter(1.0, decimals=0)


def recall_at_k(figures: Figures) -> str:
    """Recall against the length of the list, on a logarithmic axis."""
    figure, (axes,) = new_figure(height=4.6)
    look = looks(figures["methods"])
    ends = set()
    for name, method in figures["methods"].items():
        curve = method["recall_curve"]
        ends.add(max(curve["k"]))
        axes.plot(
            *(curve["k"], curve["recall"]),
            color=look[name].colour,
            linestyle=look[name].dash,
            marker=look[name].marker,
            markersize=4,
            label=name,
        )
    axes.set_xscale("log")
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if k <= max(ends)]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("K, places of the list")
    axes.set_ylabel("recall at K")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(_PERCENT)
    legend_below(figure, axes)
    return to_svg(figure)


def ndcg_bars(figures: Figures) -> str:
    """NDCG@10 per method with its interval."""
    return _bars(figures, "ndcg_10", "NDCG@10, with 95 % interval", "{:.3f}")


def novelty_bars(figures: Figures) -> str:
    """Novelty per method, beside that of what users chose themselves."""
    return _bars(
        figures,
        "novelty_20",
        f"novelty of the first {figures['places']}, bits per item",
        "{:.1f}",
        reference=(figures["history"]["novelty"], "histories"),
    )


def _bars(
    figures: Figures, key: str, label: str, number: str, reference: tuple[float, str] | None = None
) -> str:
    methods = figures["methods"]
    look = looks(methods)
    shown = {name: method[key] for name, method in methods.items() if method[key]["mean"] is not None}
    figure, (axes,) = new_figure(height=1.0 + 0.42 * len(shown))
    reach = max(value["high"] for value in shown.values()) or 1.0
    for place, (name, value) in enumerate(shown.items()):
        low, high = max(value["low"], 0.0), value["high"]
        axes.barh(place, value["mean"], height=0.62, color=look[name].colour)
        axes.plot([low, high], [place, place], color=INK, linewidth=1.4, marker="|", markersize=7)
        axes.text(
            high + 0.015 * reach, place, number.format(value["mean"]), va="center", fontsize=9.5, bbox=_HALO
        )
    axes.set_yticks(range(len(shown)), list(shown))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.13 * max(reach, reference[0] if reference else 0.0))
    axes.set_xlabel(label)
    if reference:
        axes.axvline(reference[0], color=INK, linestyle=":", linewidth=1.4, label=reference[1])
        legend_below(figure, axes)
    return to_svg(figure)


def coverage_and_accuracy(figures: Figures) -> str:
    """What share of the catalogue anyone gets to see, against accuracy."""
    figure, (axes,) = new_figure(height=4.6)
    look = looks(figures["methods"])
    for name, method in figures["methods"].items():
        ndcg = method["ndcg_10"]
        axes.plot(
            *([method["coverage_20"]] * 2, [ndcg["low"], ndcg["high"]]),
            color=look[name].colour,
            linewidth=1.2,
        )
        axes.plot(
            *(method["coverage_20"], ndcg["mean"]),
            color=look[name].colour,
            marker=look[name].marker,
            markersize=9,
            markeredgecolor="white",
            markeredgewidth=0.7,
            linestyle="none",
            label=name,
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(_PERCENT)
    axes.set_xlabel(f"share of the catalogue in someone's first {figures['places']}")
    axes.set_ylabel("NDCG@10, with 95 % interval")
    legend_below(figure, axes)
    return to_svg(figure)


def popularity_deciles(figures: Figures) -> str:
    """How the shown places, and the users' own events, spread over the tenths of the catalogue."""
    figure, (axes,) = new_figure(height=4.6)
    look = looks(figures["methods"])
    tenths = np.arange(1, 11)
    axes.fill_between(
        tenths, figures["history"]["popularity_deciles"], color="#eceef2", label="histories", linewidth=0
    )
    for name, method in figures["methods"].items():
        axes.plot(
            *(tenths, method["popularity_deciles_20"]),
            color=look[name].colour,
            linestyle=look[name].dash,
            marker=look[name].marker,
            markersize=4.5,
            label=name,
        )
    axes.set_xticks(tenths, ["least\npopular", *map(str, tenths[1:-1]), "most\npopular"])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.set_xlabel("tenth of the catalogue, by popularity in the histories")
    axes.set_ylabel(f"share of the first {figures['places']} places")
    legend_below(figure, axes)
    return to_svg(figure)


def reliability(figures: Figures) -> str:
    """Stated probability against how often the item was the next one."""
    bins = {key: np.asarray(values) for key, values in figures["calibration"]["bins"].items()}
    figure, (axes,) = new_figure(height=4.6)
    look = looks(figures["methods"])[RERANK]
    reach = 1.1 * max([*bins["probability"], *bins["high"]], default=1.0)
    positive = [*bins["probability"], *bins["hit_rate"]]
    start = 0.0
    if positive and min(positive) > 0:
        # Bins span orders of magnitude; zero, which a logarithmic axis cannot show, is not among them.
        start = 0.8 * min(*bins["probability"], *bins["low"][bins["low"] > 0])
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    axes.plot(
        [start, reach], [start, reach], color=FAINT, linestyle="--", linewidth=1.2, label="exactly as stated"
    )
    axes.errorbar(
        bins["probability"],
        bins["hit_rate"],
        yerr=np.maximum([bins["hit_rate"] - bins["low"], bins["high"] - bins["hit_rate"]], 0.0),
        color=look.colour,
        marker="o",
        capsize=3,
        elinewidth=1.2,
        label="items of the page, equally many per point",
    )
    axes.set_xlim(start, reach)
    axes.set_ylim(start, reach)
    axes.set_xlabel("stated probability of being the next item")
    axes.set_ylabel("how often it was")
    legend_below(figure, axes, columns=2)
    return to_svg(figure)


def training_curves(figures: Figures) -> str | None:
    """Every figure of every model's training, by epoch; None where nothing was recorded."""
    panels = [
        (model, key, [(row["epoch"], row[key]) for row in rows if row.get(key) is not None])
        for model, rows in figures["curves"].items()
        for key in dict.fromkeys(key for row in rows for key in row if key != "epoch")
    ]
    if not panels:
        return None
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure, all_axes = new_figure(lines, columns, width=6.0, height=2.3 * lines)
    look = looks(["retrieve", "rank"])
    for axes, (model, key, points) in zip(all_axes, panels, strict=False):
        colour = look[model].colour if model in look else INK
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3)
        axes.set_title(f"{model}: {_in_words(key)}", fontsize=10, loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    return to_svg(figure)


def _in_words(key: str) -> str:
    """A figure's key as people write it: validation_ndcg_10 becomes validation NDCG@10."""
    return re.sub(r"_(\d+)$", r"@\1", key).replace("_", " ").replace("ndcg", "NDCG")


def ndcg_by_history(figures: Figures) -> str:
    """NDCG@10 in buckets of history length, for the pipeline and the best baseline."""
    best = figures["headline"]["best_baseline"]
    shown = [name for name in (RETRIEVE, RERANK, RERANK_DEFAULT, best) if name]
    look = looks(figures["methods"])
    figure, (axes,) = new_figure(height=4.6)
    for place, name in enumerate(shown):
        rows = figures["methods"][name]["ndcg_10_by_history"]
        at = np.arange(len(rows)) + 0.13 * (place - (len(shown) - 1) / 2)
        mean, low, high = (np.array([row[part] for row in rows]) for part in ("mean", "low", "high"))
        axes.errorbar(
            at,
            mean,
            yerr=[mean - np.maximum(low, 0), high - mean],
            color=look[name].colour,
            marker=look[name].marker,
            linestyle="none",
            capsize=3,
            elinewidth=1.4,
            label=name,
        )
    buckets = figures["methods"][RERANK]["ndcg_10_by_history"]
    labels = [f"{row['shortest']}–{row['longest']}\n{row['users']} users" for row in buckets]
    axes.set_xticks(range(len(buckets)), labels)
    axes.grid(axis="x", visible=False)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("events in the user's history")
    axes.set_ylabel("NDCG@10, with 95 % interval")
    legend_below(figure, axes, columns=2)
    return to_svg(figure)


PLOTS: dict[str, Callable[[Figures], str | None]] = {
    "recall_at_k": recall_at_k,
    "ndcg_bars": ndcg_bars,
    "coverage_and_accuracy": coverage_and_accuracy,
    "novelty_bars": novelty_bars,
    "popularity_deciles": popularity_deciles,
    "reliability": reliability,
    "ndcg_by_history": ndcg_by_history,
    "training_curves": training_curves,
}


def draw(figures: Figures) -> dict[str, str]:
    """All plots by name, in the report's style; a plot that has nothing to show is left out."""
    with applied():
        drawn = {name: plot(figures) for name, plot in PLOTS.items()}
    return {name: svg for name, svg in drawn.items() if svg}
