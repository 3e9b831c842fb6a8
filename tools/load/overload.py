"""What a server does under more load than it can take, judged from one run before, during and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.load.calls import REFUSED
from tools.load.recording import RECOMMEND, Recording, Tally
from tools.load.schedule import Step

GROWTH = 64.0
"""MiB for queues and buffers, which are made when they are needed first."""
RECOVERY = 1.0
"""Seconds after the burst from which on latency is to be normal again."""


@dataclass(frozen=True, slots=True)
class Overload:
    """How much, for how long, and what is to hold.

    `capacity` is in requests per second at an objective of `slo_ms` for the 99th percentile; for `seconds`
    come `factor` times as many, before and after it half as many. Raises ValueError on what cannot be meant.
    """

    capacity: float
    slo_ms: float = 50.0
    factor: float = 3.0
    seconds: float = 60.0
    calm_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("capacity", "slo_ms", "seconds", "calm_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be above 0")
        if self.factor < 1:
            raise ValueError(f"factor is {self.factor!r}; an overload is at least 1")

    @property
    def steps(self) -> list[Step]:
        """Calm, the burst, the time to recover, and calm again."""
        calm = self.capacity / 2
        return [
            Step(calm, 2.0, counted=False),
            Step(calm, self.calm_seconds),
            Step(self.capacity * self.factor, self.seconds),
            Step(calm, RECOVERY, counted=False),
            Step(calm, self.calm_seconds),
        ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that is to hold, and what was found."""

    what: str
    found: str
    holds: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.found}" + ("" if self.holds else "  MISSED")


def judge(overload: Overload, recording: Recording, memory: tuple[int, int] | None = None) -> list[Verdict]:
    """What held, of a run of the steps of `overload`; `memory` is the server's in bytes, before and after.

    Raises ValueError where nothing was answered before the burst.
    """
    before, burst, after = (tallies.get(RECOMMEND, Tally()) for _, tallies in recording.counted())
    if not before.answered:
        raise ValueError("no request was answered before the burst")
    calm, late = (tally.latency.percentile(99) for tally in (before, after))
    accepted = burst.latency.percentile(99)
    goodput = burst.answered / overload.seconds
    refused = burst.errors[REFUSED]
    others = sum(count for error, count in burst.errors.items() if error != REFUSED)
    verdicts = [
        Verdict(
            f"p99 of what was answered, at most {2 * overload.slo_ms:g} ms",
            f"{accepted:.1f} ms",
            accepted <= 2 * overload.slo_ms,
        ),
        Verdict(
            "what was not answered was refused with a clear status",
            f"{refused} refused, half of them within {burst.failed_after.percentile(50):.0f} ms;"
            f" {others} other errors, {burst.skipped} not sent",
            others <= 0.001 * burst.arrivals,
        ),
        Verdict(
            "answers per second during the burst, at least half of the capacity",
            f"{goodput:.0f}/s of {overload.capacity:.0f}/s",
            goodput >= overload.capacity / 2,
        ),
        Verdict(
            f"p99 from {RECOVERY:g} s after the burst, at most twice that before it or the objective",
            f"{late:.1f} ms, {calm:.1f} ms before; {after.failed} failed",
            not after.failed and late <= max(2 * calm, overload.slo_ms),
        ),
    ]
    if memory is not None:
        before_mib, after_mib = (each / 2**20 for each in memory)
        verdicts.append(
            Verdict(
                f"memory of the server afterwards, at most {GROWTH:g} MiB or a tenth more",
                f"{before_mib:.0f} MiB before, {after_mib:.0f} MiB after",
                after_mib <= before_mib + max(GROWTH, before_mib / 10),
            )
        )
    return verdicts


def figures(overload: Overload, verdicts: Sequence[Verdict], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Everything for a JSON; `rest` are the figures of the load test."""
    return {
        "kind": "overload",
        "capacity": overload.capacity,
        "factor": overload.factor,
        "held": all(verdict.holds for verdict in verdicts),
        "verdicts": [
            {"what": verdict.what, "found": verdict.found, "held": verdict.holds} for verdict in verdicts
        ],
        "load": dict(rest),
    }
