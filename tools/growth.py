"""How serving grows with the catalogue: figures of several sizes as a table and as a plot."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter
from rich.table import Table

from tools.evaluation.style import FAINT, Look, applied, new_figure, to_svg
from tools.memory import SERVER
from tools.serving.repository import RELEASE_MODEL

Figures = dict[str, Any]
"""What tools/bench_scale.py writes: `sizes`, one entry for each size, smallest first.

`memory` of a size is bytes of each process, by profile and by model.
"""

GIB = 2**30
_WAYS = {"served": Look("#0059a3", "-", "s"), "in process": Look("#3a93cf", "--", "o")}
_LINEAR = Look("#757575", ":")
_MODELS = ("#3a93cf", "#0059a3", "#008a63", "#c27c00", "#a6487f", "#6b4fa0", "#7a5c3e", "#c9470a")
OTHERS = "others"
_NARROW = 0.03
"""Models with less than this part of the largest bar are drawn as one."""


def processes_of(memory: dict[str, list[int]]) -> dict[str, list[int]]:
    """Bytes of each process, by the model's own name: its release is left out."""
    found: dict[str, list[int]] = {}
    for name, taken in memory.items():
        match = RELEASE_MODEL.fullmatch(name)
        found.setdefault(match["model"] if match else name, []).extend(taken)
    return found


def memory_by_model(memory: dict[str, list[int]]) -> dict[str, int]:
    """Bytes by the model's own name, summed over its instances."""
    return {name: sum(taken) for name, taken in processes_of(memory).items()}


def growth_of(sizes: list[Figures]) -> dict[str, float]:
    """How many times as large the last of `sizes` is as the first: items, and p50 of both ways."""
    first, last = sizes[0], sizes[-1]
    return {
        "items": last["items"] / first["items"],
        **{f"{way} p50": last["latency"][way]["p50"] / first["latency"][way]["p50"] for way in _WAYS},
    }


def latency_table(figures: Figures) -> Table:
    """Milliseconds, a column for each size."""
    table = _table("recommend, one client, milliseconds (SYNTHETIC catalogues)", figures)
    latencies = [size["latency"] for size in figures["sizes"]]
    for way in _WAYS:
        for part in ("p50", "p99"):
            table.add_row(f"{way} {part}", *(f"{latency[way][part]:.2f}" for latency in latencies))
    for sign, key in (("−", "served p50 - in process p50"), ("÷", "served p50 / in process p50")):
        table.add_row(f"served p50 {sign} in process p50", *(f"{latency[key]:.2f}" for latency in latencies))
    return table


def memory_table(figures: Figures) -> Table:
    """GiB of each model with its instances, and what the build took, a column for each size."""
    table = _table("memory, GiB; pages that processes share are counted once", figures)
    sizes = figures["sizes"]
    for profile in profiles_of(figures):
        taken = [memory_by_model(size["memory"][profile]) for size in sizes]
        for name in models_of(taken):
            most = max(len(processes_of(size["memory"][profile]).get(name, [])) for size in sizes)
            instances = f" × {most}" if most > 1 else ""
            table.add_row(
                f"{name}{instances}", *(f"{each[name] / GIB:.2f}" if name in each else "" for each in taken)
            )
        totals = [f"{sum(each.values()) / GIB:.2f}" for each in taken]
        table.add_row(f"all of profile {profile}", *totals, end_section=True)
    table.add_row("seconds to the first page", *(f"{size['start_seconds']:.1f}" for size in sizes))
    peaks = [size["build"]["peak_bytes"]["all processes"] for size in sizes]
    table.add_row("peak of the build", *(f"{peak / GIB:.2f}" for peak in peaks))
    table.add_row(
        "seconds of the build", *(f"{sum(size['build']['seconds'].values()):.0f}" for size in sizes)
    )
    return table


def _table(title: str, figures: Figures) -> Table:
    table = Table("", title=title)
    for size in figures["sizes"]:
        table.add_column(f"{size['items']:,} items\n{size['users']:,} users", justify="right")
    return table


def profiles_of(figures: Figures) -> list[str]:
    """The profiles whose memory was measured, the one that is shipped first."""
    return list(figures["sizes"][0]["memory"])


def models_of(taken: list[dict[str, int]]) -> list[str]:
    """The models in `taken`, bytes by model for each size: the largest first, Triton itself last."""
    most: dict[str, int] = {}
    for each in taken:
        for name, count in each.items():
            most[name] = max(most.get(name, 0), count)
    return sorted(most, key=lambda name: (name == SERVER, -most[name], name))


def growth_plot(figures: Figures) -> str:
    """p50 and memory against the number of items, as an SVG document."""
    with applied():
        figure, (latency, memory) = new_figure(columns=2, width=9.5, height=4.0)
        _draw_latency(latency, figures["sizes"])
        _draw_memory(memory, figures)
        figure.suptitle("synthetic catalogues, untrained models: for scale only", fontsize=9.5, color=FAINT)
        return to_svg(figure)


def _draw_latency(axes: Axes, sizes: list[Figures]) -> None:
    items = np.array([size["items"] for size in sizes], float)
    for way, look in _WAYS.items():
        p50 = [size["latency"][way]["p50"] for size in sizes]
        axes.plot(items, p50, color=look.colour, linestyle=look.dash, marker=look.marker, label=f"{way}, p50")
        for place, value in zip(items, p50, strict=True):
            label = f"{value:.3g}"
            offset = (0, 6 if way == "served" else -14)
            axes.annotate(
                label, (place, value), offset, textcoords="offset points", ha="center", fontsize=8.5
            )
        if way == "served":
            # Linear growth would be this line; everything below it is sub-linear.
            linear = p50[0] * items / items[0]
            axes.plot(items, linear, color=_LINEAR.colour, linestyle=_LINEAR.dash, label="linear growth")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(items, [_short(value) for value in items])
    axes.minorticks_off()
    axes.margins(0.08)
    axes.set_xlabel("items")
    axes.set_ylabel("latency, ms")
    axes.legend(loc="upper left")


def _draw_memory(axes: Axes, figures: Figures) -> None:
    """A bar per size and profile, side by side; what is small is drawn as one."""
    sizes, profiles = figures["sizes"], profiles_of(figures)
    taken = {profile: [memory_by_model(size["memory"][profile]) for size in sizes] for profile in profiles}
    least = _NARROW * max(sum(each.values()) for bars in taken.values() for each in bars)
    models = models_of([each for bars in taken.values() for each in bars])
    wide = [
        name for name in models if any(each.get(name, 0) >= least for bars in taken.values() for each in bars)
    ]
    width = 0.8 / len(profiles)
    for number, profile in enumerate(profiles):
        places = np.arange(len(sizes)) + (number - (len(profiles) - 1) / 2) * width
        bottom = np.zeros(len(sizes))
        for name in [*wide, OTHERS]:
            counts = [
                each.get(name, 0)
                if name != OTHERS
                else sum(count for model, count in each.items() if model not in wide)
                for each in taken[profile]
            ]
            if any(counts):
                height = np.array(counts) / GIB
                colour = "#b9bec7" if name == OTHERS else _MODELS[wide.index(name) % len(_MODELS)]
                axes.bar(places, height, bottom=bottom, width=0.92 * width, color=colour, label=name)
                bottom += height
        for place, total in zip(places, bottom, strict=True):
            text = f"{total:.2f}\n{profile}"
            axes.annotate(text, (place, total), (0, 3), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xticks(range(len(sizes)), [_short(size["items"]) for size in sizes])
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.2)
    axes.set_xlabel("items")
    axes.set_ylabel("memory of the server's processes, GiB")
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    axes.legend(named.values(), named.keys(), loc="upper left")


def _short(count: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:g}{letter}"
    return f"{count:g}"
