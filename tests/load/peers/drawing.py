"""One plot: the capacity of every side, and latency against rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from figures import Findings, median
from matplotlib.ticker import FuncFormatter
from sides import DOCUMENTED, OURS

from tools.evaluation.style import Look, applied, legend_below, new_figure, to_svg

_COLOURS = {"FastAPI": "#c27c00", "BentoML": "#a6487f", "Ray Serve": "#008a63"}
_BINS = 12
"""Per factor of two of the rate: probes closer than that are drawn as one."""


def look_of(name: str) -> Look:
    """Ours in blue; a framework has one colour, dashed as documented."""
    if name == OURS:
        return Look("#0059a3", "-", "o")
    framework, _, style = name.partition(", ")
    dashed = style == DOCUMENTED
    return Look(_COLOURS.get(framework, "#757575"), "--" if dashed else "-", "s" if dashed else "D")


def draw(findings: Sequence[Findings], limit_ms: float) -> str:
    """The plot as SVG: bars from the median over the repeats, with the lowest and highest of them."""
    with applied():
        figure, (bars, curves) = new_figure(1, 2, width=11.0, height=4.6)
        found = [each for each in findings if each.capacities]
        places = np.arange(len(found))[::-1]
        values = np.array([each.capacity for each in found])
        spread = [
            values - [min(each.capacities) for each in found],
            [max(each.capacities) for each in found] - values,
        ]
        bars.barh(
            places,
            values,
            xerr=spread,
            color=[look_of(each.name).colour for each in found],
            hatch=["//" if each.style == DOCUMENTED else "" for each in found],
            edgecolor="white",
            ecolor="#1d2433",
        )
        bars.set_yticks(places, [each.name for each in found])
        bars.set_xlabel(f"pages/s at p99 ≤ {limit_ms:g} ms, no errors")
        bars.grid(visible=False, axis="y")
        for each in found:
            points = latency_curve(each)
            look = look_of(each.name)
            if points:
                curves.plot(
                    *zip(*points, strict=True),
                    color=look.colour,
                    linestyle=look.dash,
                    marker=look.marker,
                    markersize=4,
                    label=each.name,
                )
        curves.axhline(limit_ms, color="#c9470a", linestyle=":", linewidth=1.3)
        curves.set_yscale("log")
        curves.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        curves.yaxis.set_minor_formatter(
            FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        )
        curves.set_xlim(left=0)
        curves.set_xlabel("requests/s offered, at random")
        curves.set_ylabel("p99, ms from the intended start")
        legend_below(figure, curves, columns=4)
        return to_svg(figure)


def latency_curve(findings: Findings) -> list[tuple[float, float]]:
    """Rates and the median p99 of the probes there; probes that broke off have none."""
    near: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for shot in (*findings.shots, *findings.steady):
        if np.isfinite(shot.p99):
            near[round(float(np.log2(shot.rate)) * _BINS)].append((shot.rate, shot.p99))
    return [
        (median([rate for rate, _ in points]), median([p99 for _, p99 in points]))
        for _, points in sorted(near.items())
    ]
