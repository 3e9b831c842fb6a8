"""A forest plot: one figure per arm of an experiment, with its interval."""

from __future__ import annotations

from matplotlib.ticker import MaxNLocator, PercentFormatter

from tools.evaluation.experiments import ArmReport, ExperimentReport
from tools.evaluation.metrics import Interval
from tools.evaluation.style import FAINT, INK, applied, new_figure, to_svg

_COLOURS = ("#0059a3", "#008a63", "#c9470a", "#6b4fa0", "#7a5c3e")
"""Of the arms after the first, in turn; at least 3:1 against white."""


def forest_plot(report: ExperimentReport) -> str:
    """Every arm's click-through rate with its 95 % interval, as an SVG document.

    The dotted line is the first arm; beside the others stands their ratio to it. Raises ValueError where no
    arm has a rate.
    """
    shown = [(arm, arm.ctr) for arm in report.arms if arm.ctr is not None]
    if not shown:
        raise ValueError("no arm has a click-through rate: there are no views, or fewer than two users")
    with applied():
        figure, (axes,) = new_figure(width=7.2, height=1.35 + 0.62 * len(shown))
        for place, (arm, ctr) in enumerate(shown):
            colour = FAINT if arm is report.arms[0] else _COLOURS[(place - 1) % len(_COLOURS)]
            axes.plot(
                *([ctr.low, ctr.high], [place, place]),
                color=colour,
                linewidth=2.4,
                solid_capstyle="round",
            )
            axes.plot(ctr.mean, place, color=colour, marker="D", markersize=8, markeredgecolor="white")
            axes.text(
                *(1.03, place, _caption(arm, ctr, report.arms[0].name)),
                transform=axes.get_yaxis_transform(),
                va="center",
                linespacing=1.5,
                fontsize=9.5,
            )
        if report.arms[0].ctr is not None:
            axes.axvline(report.arms[0].ctr.mean, color=INK, linestyle=":", linewidth=1.2, zorder=1)
        axes.set_yticks(range(len(shown)), [f"{arm.name}\n{arm.users:,} users" for arm, _ in shown])
        axes.set_ylim(len(shown) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.set_xlabel("clicks per view, with 95 % interval over users")
        axes.set_title(report.experiment, fontsize=11, loc="left", color=INK)
        return to_svg(figure)


def _caption(arm: ArmReport, ctr: Interval, first: str) -> str:
    low, mean, high = (f"{100 * value:.2f}" for value in (ctr.low, ctr.mean, ctr.high))
    lines = [f"{mean} %  ({low} – {high})"]
    if arm.ctr_ratio is not None:
        ratio = arm.ctr_ratio
        lines.append(f"{ratio.mean:.3f} × {first}  ({ratio.low:.3f} – {ratio.high:.3f})")
    return "\n".join(lines)
