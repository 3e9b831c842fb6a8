"""The load report's plots, in the style of the evaluation's: each turns figures into an SVG document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from tools.evaluation.style import FAINT, Look, applied, legend_below, new_figure, to_svg

Figures = dict[str, Any]

_P50, _P90, _P99, _MAX = (
    Look("#3a93cf", "-"),
    Look("#0059a3", "--"),
    Look("#14213d", "-"),
    Look("#757575", ":"),
)
_LATENCIES = {"p50": _P50, "p90": _P90, "p99": _P99, "max": _MAX}
_STAGES = (
    Look("#3a93cf", "-", "o"),
    Look("#0059a3", "--", "s"),
    Look("#008a63", "-.", "^"),
    Look("#c27c00", ":", "D"),
    Look("#a6487f", "--", "v"),
    Look("#6b4fa0", "-", "P"),
)
_NINES = (0, 50, 90, 99, 99.9, 99.99, 99.999)


def latency_over_time(figures: Figures) -> str | None:
    """Percentiles of each second of intended starts."""
    rows = figures["over_time"]
    figure, (axes,) = new_figure(height=3.8)
    for name, look in _LATENCIES.items():
        values = np.array([np.nan if value is None else value for value in rows[name]], float)
        axes.plot(
            np.array(rows["second"]) + 0.5,
            values,
            color=look.colour,
            linestyle=look.dash,
            marker="o",
            markersize=2.5,
            label=name,
        )
    _logarithmic(axes)
    _over_time(axes, figures)
    axes.set_ylabel("latency, ms")
    legend_below(figure, axes, columns=4)
    return to_svg(figure)


def latency_percentiles(figures: Figures) -> str | None:
    """The whole distribution of each step, its tail spread out: one nine after the other."""
    figure, (axes,) = new_figure(height=3.8)
    steps = figures["steps"]
    most = 1.0
    drawn = 0
    for step in steps:
        for kind, tally in step["requests"].items():
            if not tally["answered"]:
                continue
            histogram = HdrHistogram.decode(tally["histogram_us"])
            # Where less than one request is left, there is nothing to see.
            nines = np.linspace(0, np.log10(max(10, tally["answered"])), 200)
            values = [histogram.get_value_at_percentile(100 * (1 - 10**-nine)) / 1000 for nine in nines]
            look = _STAGES[drawn % len(_STAGES)]
            drawn += 1
            most = max(most, nines[-1])
            label = kind if len(steps) == 1 else f"{kind}, {step['rate']:g}/s"
            axes.plot(nines, values, color=look.colour, linestyle=look.dash, label=label)
    ticks = [each for each in _NINES if -np.log10(1 - each / 100) <= most + 0.05]
    axes.set_xticks([-np.log10(1 - each / 100) for each in ticks], [f"{each:g} %" for each in ticks])
    _logarithmic(axes)
    axes.set_xlabel("share of answered requests that were at least as fast")
    axes.set_ylabel("latency, ms")
    legend_below(figure, axes)
    return to_svg(figure) if drawn else None


def latency_against_rate(figures: Figures) -> str | None:
    """Percentiles per step or probe; None where there is only one rate."""
    steps = figures["probes"] if figures["kind"] == "capacity" else figures["steps"]
    points = (
        [
            (step["rate"], step["requests"]["recommend"]["latency_ms"])
            for step in sorted(steps, key=lambda step: step["rate"])
            if step["requests"].get("recommend", {}).get("answered")
        ]
        if len({step["rate"] for step in steps}) > 1
        else []
    )
    if not points:
        return None
    figure, (axes,) = new_figure(height=3.8)
    rates = np.array([rate for rate, _ in points])
    for name, look in _LATENCIES.items():
        values = np.array([latency[name] for _, latency in points], float)
        axes.plot(rates, values, color=look.colour, linestyle="none", marker="o", markersize=4, alpha=0.7)
        unique = np.unique(rates)
        middle = [float(np.median(values[rates == rate])) for rate in unique]
        axes.plot(unique, middle, color=look.colour, linestyle=look.dash, label=name)
    if figures["kind"] == "capacity":
        for value, dash, label in (
            (figures["capacity"], "-", "highest held"),
            (figures["missed"], ":", "missed"),
        ):
            if value:
                axes.axvline(value, color="#c9470a", linestyle=dash, linewidth=1.3, label=label)
    _logarithmic(axes)
    axes.set_xlim(left=0)
    axes.set_xlabel("arrivals per second")
    axes.set_ylabel("latency, ms")
    legend_below(figure, axes, columns=4 if figures["kind"] == "load" else 3)
    return to_svg(figure)


def throughput(figures: Figures) -> str | None:
    """Arrivals and answers in each second; pages and events both count as answers."""
    rows = figures["over_time"]
    figure, (axes,) = new_figure(height=3.2)
    seconds = np.array(rows["second"]) + 0.5
    axes.plot(seconds, rows["arrivals"], color="#757575", linestyle="--", label="pages asked for")
    axes.plot(seconds, rows["answers"], color="#0059a3", label="answers, events included")
    _over_time(axes, figures)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("per second")
    legend_below(figure, axes)
    return to_svg(figure)


def failures(figures: Figures) -> str | None:
    """Errors and skipped arrivals in each second."""
    rows = figures["over_time"]
    figure, (axes,) = new_figure(height=3.2)
    seconds = np.array(rows["second"]) + 0.5
    failed, skipped = np.array(rows["failed"], float), np.array(rows["skipped"], float)
    axes.bar(seconds, failed, width=0.8, color="#c9470a", label="failed")
    axes.bar(seconds, skipped, width=0.8, bottom=failed, color="#c27c00", hatch="//", label="skipped")
    _over_time(axes, figures)
    axes.set_ylim(0, max(1.0, 1.1 * float((failed + skipped).max(initial=0))))
    axes.set_ylabel("per second")
    legend_below(figure, axes)
    return to_svg(figure)


def queues(figures: Figures) -> str | None:
    """How long requests waited for an instance of each stage."""
    return _stages(figures, "queue_ms", "mean wait for an instance, ms")


def compute(figures: Figures) -> str | None:
    """How long each stage's executions took, as a request sees it."""
    return _stages(figures, "compute_ms", "mean execution, ms")


def utilisation(figures: Figures) -> str | None:
    """The share of time in which each stage's instances executed."""
    return _stages(figures, "utilisation", "share of time executing", most=1.0)


def _stages(figures: Figures, key: str, label: str, most: float | None = None) -> str | None:
    rows = figures["stages_over_time"]
    # record_event is served, but a load of pages alone never asks it.
    asked = (name for row in rows for name, use in row["stages"].items() if use["requests_per_second"] > 0)
    names = list(dict.fromkeys(asked))
    if not names:
        return None
    figure, (axes,) = new_figure(height=3.4)
    for number, name in enumerate(names):
        look = _STAGES[number % len(_STAGES)]
        found = [(row["second"], row["stages"][name][key]) for row in rows if name in row["stages"]]
        axes.plot(
            *zip(*found, strict=True),
            color=look.colour,
            linestyle=look.dash,
            marker=look.marker,
            markersize=3.5,
            label=name,
        )
    _over_time(axes, figures)
    axes.set_ylim(0, most)
    axes.set_ylabel(label)
    legend_below(figure, axes)
    return to_svg(figure)


def _over_time(axes: Axes, figures: Figures) -> None:
    warm_up = figures["warm_up_seconds"]
    total = warm_up + sum(step["seconds"] for step in figures["steps"])
    if warm_up:
        axes.axvspan(0, warm_up, color="#eceef2", linewidth=0, zorder=0)
        axes.text(
            warm_up,
            0.99,
            "warm-up ",
            transform=axes.get_xaxis_transform(),
            ha="right",
            va="top",
            fontsize=8.5,
            color=FAINT,
        )
    begin = warm_up
    for step in figures["steps"][:-1]:
        begin += step["seconds"]
        axes.axvline(begin, color=FAINT, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, total)
    axes.set_xlabel("seconds")


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = axes.get_ylim()
    if high / low < 30:
        axes.yaxis.set_minor_formatter(
            FuncFormatter(lambda value, _: f"{value:g}" if _leading(value) in (2, 5) else "")
        )
    else:
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="both", axis="y")


def _leading(value: float) -> int:
    return int(f"{value:e}"[0])


_LOAD: dict[str, Callable[[Figures], str | None]] = {
    "latency_over_time": latency_over_time,
    "latency_percentiles": latency_percentiles,
    "latency_against_rate": latency_against_rate,
    "throughput": throughput,
    "failures": failures,
    "queues": queues,
    "compute": compute,
    "utilisation": utilisation,
}


def draw(figures: Figures) -> dict[str, str]:
    """The plots that `figures` have something for, by name."""
    plots = _LOAD if figures["kind"] == "load" else {"latency_against_rate": latency_against_rate}
    with applied():
        drawn = {name: plot(figures) for name, plot in plots.items()}
    return {name: svg for name, svg in drawn.items() if svg}
