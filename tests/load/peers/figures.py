"""What the comparison found: medians over the repeats, ratios, a table and a JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from measuring import Shot, rounded
from rich.table import Table
from sides import DOCUMENTED, OURS, TUNED

Figures = dict[str, Any]

IN_PROCESS = "in process"


@dataclass
class Findings:
    """What was measured of one side: a value per repeat, and every probe."""

    name: str
    style: str
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    """Milliseconds, one request at a time."""
    capacities: list[float] = field(default_factory=list)
    """Requests/s within the objective."""
    enclosed: list[bool] = field(default_factory=list)
    """Whether a higher rate was seen to miss."""
    shots: list[Shot] = field(default_factory=list)
    steady: list[Shot] = field(default_factory=list)
    """At 70 % of the capacity; ours alone."""

    @property
    def capacity(self) -> float:
        """The median over the repeats; NaN before there is one."""
        return median(self.capacities)

    def near_capacity(self) -> list[Shot]:
        """The probes that held within 15 % of the capacity: those that the generator's cost is stated for."""
        return [
            shot
            for shot in self.shots
            if shot.holds and abs(shot.rate - self.capacity) < 0.15 * self.capacity
        ]

    def figures(self) -> Figures:
        """For the JSON."""
        near = self.near_capacity()
        return {
            "style": self.style,
            "p50_ms": rounded(median(self.p50)),
            "p99_ms": rounded(median(self.p99)),
            "capacity": rounded(self.capacity, 2),
            "server_cores": rounded(median([shot.server_cores for shot in near]), 3),
            "generator_cores": rounded(median([shot.generator_cores for shot in near]), 3),
            "generator_ms_per_request": rounded(median([shot.generator_ms for shot in near]), 3),
            "repeats": {
                "p50_ms": [rounded(value) for value in self.p50],
                "p99_ms": [rounded(value) for value in self.p99],
                "capacity": [rounded(value, 2) for value in self.capacities],
                "enclosed": self.enclosed,
            },
            "at_70_percent": [shot.figures() for shot in self.steady],
            "probes": [shot.figures() for shot in self.shots],
        }


def median(values: Sequence[float]) -> float:
    """NaN where there is nothing."""
    return statistics.median(values) if values else math.nan


def ratios(findings: Sequence[Findings]) -> Figures:
    """Our capacity over the best peer's, per style; p99 ÷ p50 at 70 % of ours. Only what was measured."""
    found: Figures = {}
    ours = next((each for each in findings if each.name == OURS), None)
    if ours is None:
        return found
    for style in (DOCUMENTED, TUNED):
        peers = [each for each in findings if each.style == style and each.capacity > 0]
        if peers and ours.capacity > 0:
            best = max(peers, key=lambda each: each.capacity)
            found[f"ours ÷ best peer {style}"] = {
                "ratio": rounded(ours.capacity / best.capacity, 3),
                "best": best.name,
                # Each repeat is a comparison of its own: sides take turns within it.
                "repeats": [
                    rounded(one / other, 3)
                    for one, other in zip(ours.capacities, best.capacities, strict=False)
                    if other > 0
                ],
            }
    if ours.steady:
        found["p99 ÷ p50 at 70 % of our capacity"] = {
            "ratio": rounded(median([shot.p99 / shot.p50 for shot in ours.steady]), 3),
            "rate": rounded(ours.steady[-1].rate, 1),
            "p50_ms": rounded(median([shot.p50 for shot in ours.steady])),
            "p99_ms": rounded(median([shot.p99 for shot in ours.steady])),
        }
    return found


def others_cores(findings: Sequence[Findings]) -> float:
    """What other programs used while probes ran: the median."""
    return median([shot.others_cores for each in findings for shot in each.shots])


def table(findings: Sequence[Findings], bound: Figures, slo: str) -> Table:
    """A row per side."""
    drawn = Table(title=f"pages/s at {slo}; latency one request at a time; medians", padding=(0, 0))
    for heading in (
        "",
        "p50 ms",
        "p99 ms",
        "pages/s",
        "from – to",
        "server\ncores",
        "generator\ncores, ms each",
    ):
        drawn.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for each in findings:
        near = each.near_capacity()
        spread = f"{min(each.capacities):.0f} – {max(each.capacities):.0f}" if each.capacities else ""
        cores = median([shot.generator_cores for shot in near])
        cost = median([shot.generator_ms for shot in near])
        drawn.add_row(
            each.name if each.name != OURS else f"[bold]{OURS}[/bold]",
            _number(median(each.p50), 2),
            _number(median(each.p99), 2),
            _number(each.capacity, 0),
            spread,
            _number(median([shot.server_cores for shot in near]), 2),
            "" if math.isnan(cores) else f"{cores:.2f}, {cost:.2f}",
        )
    if bound:
        drawn.add_section()
        best = bound["pages_per_second"]
        drawn.add_row(
            f"{IN_PROCESS}\n{bound['processes']} processes",
            _number(bound["p50_ms"], 2),
            _number(bound["p99_ms"], 2),
            "\n".join(f"{rate:.0f}" for rate in best.values()),
            "\n".join(f"{size} at once" for size in best),
            "",
            "none",
        )
    return drawn


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"
