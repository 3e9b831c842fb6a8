"""The highest rate that a server holds within its objectives, by bisection."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Probe:
    """One measurement at one rate: did it hold?"""

    rate: float
    holds: bool


@dataclass(slots=True)
class Capacity:
    """What a search found.

    `held` is the highest rate that held, 0 where none did; `missed` the lowest above it that did not, or
    None where every rate held. The truth lies between the two, as far as the probes were not lucky.
    """

    held: float = 0.0
    missed: float | None = None
    probes: list[Probe] = field(default_factory=list)
    complete: bool = False
    """Whether the search ended because `resolution` was reached, and not because time was up."""

    @property
    def resolution(self) -> float | None:
        """How far the capacity may lie above `held`, as a share; None where it is not known."""
        return None if self.missed is None or not self.held else self.missed / self.held - 1


def search(
    probe: Callable[[float], bool],
    *,
    start: float,
    most: float = 100_000.0,
    stride: float = 2.0,
    resolution: float = 0.05,
    repeats: int = 3,
    seconds: float = math.inf,
    probe_seconds: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> Capacity:
    """Look for the capacity from `start` on, doubling or halving until it is enclosed, then bisecting.

    A `stride` below 2 is for a `start` that is near the answer: it is the first factor, squared each time
    until it is 2.

    `probe` measures a rate, in requests per second. A rate is judged by the majority of up to `repeats`
    probes, of which no more are made than decide, because one disturbance must not decide. Rates are bisected
    by their geometric mean. Ends when `missed` is at most ``1 + resolution`` times `held`, when the rate
    `most` held, or when `seconds` leave no time for one more probe of `probe_seconds`.

    Raises ValueError on numbers that cannot be meant.
    """
    if not stride > 1:
        raise ValueError(f"stride is {stride!r}; it must be above 1")
    for name, value in (("start", start), ("resolution", resolution), ("most", most), ("seconds", seconds)):
        if not value > 0:
            raise ValueError(f"{name} is {value!r}; it must be above 0")
    if repeats < 1 or repeats % 2 == 0:
        raise ValueError(f"repeats is {repeats}; a majority needs an odd number of at least 1")
    found = Capacity()
    end = clock() + seconds

    def holds(rate: float) -> bool | None:
        """The majority's verdict; None where time was up before there was one."""
        yes = no = 0
        while max(yes, no) <= repeats // 2:
            if clock() + probe_seconds > end:
                return None
            verdict = probe(rate)
            found.probes.append(Probe(rate, verdict))
            yes, no = yes + verdict, no + (not verdict)
        return yes > no

    rate, factor = min(start, most), min(2.0, stride)
    while (verdict := holds(rate)) is not None:
        if verdict:
            found.held = rate
        else:
            found.missed = rate
        if found.missed is None:
            if rate >= most:
                found.complete = True
                break
            rate = min(factor * rate, most)
            factor = min(2.0, factor**2)
        elif not found.held:
            rate /= factor
            factor = min(2.0, factor**2)
            if rate < start / 1024:
                break
        else:
            if found.missed <= found.held * (1 + resolution):
                found.complete = True
                break
            rate = math.sqrt(found.held * found.missed)
    return found
