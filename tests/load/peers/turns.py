"""The order in which sides are measured: one awake at a time, in turns, each repeat a comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import numpy as np
from bound import Bound
from figures import IN_PROCESS, Figures, Findings, median, rounded
from measuring import Shot, capacity_near, quick_switches, shoot
from sides import OURS, Side, SideError
from transports import as_page, differences, one_at_a_time
from tritonrec_client.contract import DEFAULT_DIVERSITY, PADDING_ID

from tools.load.search import search
from tools.load.slo import Slo
from tools.load.visitors import Audience, Visitors

SAMPLE = 60
"""Visitors whose pages must be the same on every side."""
SETTLE = 1.0
"""Seconds that a side gets after it was held still, for what it does now and then and is overdue."""
AGAIN = 30.0
"""Seconds until a side that was held still must answer."""
STEADY = 0.7
"""The share of our capacity at which p99 ÷ p50 is measured."""
BATCHES = (1, 16)
"""Of the stages in process."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Seconds."""

    search: float = 3.0
    """A probe of the bisection."""
    probe: float = 5.0
    warm_up: float = 0.8
    alone: float = 3.0
    """One request at a time, and each figure of the stages in process."""


@dataclass
class Turns:
    """Measures `sides`, which were started, against `bound`; `say` shows progress."""

    sides: Sequence[Side]
    bound: Bound
    audience: Audience
    session: int
    slo: Slo
    lengths: Lengths
    say: Callable[[str], object]
    findings: dict[str, Findings] = field(default_factory=dict)
    in_process: dict[str, list[float]] = field(default_factory=dict)
    _near: dict[str, float] = field(default_factory=dict)
    """Where each side's capacity is looked for next."""
    _seeds: int = 0

    def __post_init__(self) -> None:
        self.findings = {side.name: Findings(side.name, side.style) for side in self.sides}

    def check(self, side: Side) -> None:
        """Raise SideError unless `side` gives the sample the pages that the stages in process give."""
        visitors = self._draw(SAMPLE)
        expected = self.bound.pages(_plain(visitors), DEFAULT_DIVERSITY)
        side.transport.expect(visitors)
        for number, page in enumerate(expected):
            if wrong := differences(as_page(page), side.transport.page(number)):
                who = f"user {visitors.users[number]}, visitor {number + 1} of {SAMPLE}"
                raise SideError(
                    f"{side.name}: {who}, gets another {', '.join(wrong)} than from the stages in process;"
                    " nothing is measured"
                )

    def enclose(self, start: float) -> None:
        """Each side's capacity, roughly, by bisection from `start` requests/s on."""
        for side in self.sides:
            with self._awake(side):
                found = search(
                    lambda rate, side=side: self._probe(side, rate, self.lengths.search).holds,  # type: ignore[misc]
                    start=start,
                    resolution=0.2,
                    repeats=1,
                )
            if not found.held:
                raise SideError(
                    f"{side.name}: no rate held {self.slo}, not even {found.probes[-1].rate:.1f}/s"
                )
            self._near[side.name] = found.held

    def repeat(self, number: int) -> None:
        """One turn of every side and of the stages in process, in an order of its own."""
        self.say(f"[bold]repeat {number}[/bold]")
        order: list[Side | None] = [*self.sides, None]
        Random(number).shuffle(order)
        for side in order:
            if side is None:
                self.measure_in_process()
            else:
                self._turn(side)

    def measure_in_process(self) -> None:
        """Latency of one process, and pages/s of all."""
        visitors = _plain(self._draw(500))
        times = self.bound.latency(visitors, DEFAULT_DIVERSITY, self.lengths.alone)
        values = {"p50_ms": np.percentile(times, 50), "p99_ms": np.percentile(times, 99)}
        for batch in BATCHES:
            rate = self.bound.throughput(visitors, DEFAULT_DIVERSITY, self.lengths.alone, batch)
            values[str(batch)] = rate
        for name, value in values.items():
            self.in_process.setdefault(name, []).append(float(value))
        self.say(f"{IN_PROCESS}: p50 {values['p50_ms']:.2f} ms, pages/s " + self._batches())

    def in_process_figures(self, processes: int) -> Figures:
        """Medians over the repeats."""
        return {
            "processes": processes,
            "p50_ms": rounded(median(self.in_process["p50_ms"])),
            "p99_ms": rounded(median(self.in_process["p99_ms"])),
            "pages_per_second": {
                str(batch): rounded(median(self.in_process[str(batch)]), 1) for batch in BATCHES
            },
            "repeats": self.in_process,
        }

    def _batches(self) -> str:
        return ", ".join(f"{self.in_process[str(batch)][-1]:.0f} ({batch} at once)" for batch in BATCHES)

    def _turn(self, side: Side) -> None:
        found = self.findings[side.name]
        with self._awake(side):
            times = self._alone(side, self.lengths.alone)
            found.p50.append(float(np.percentile(times, 50)))
            found.p99.append(float(np.percentile(times, 99)))
            self.say(f"{side.name}: one at a time, p50 {found.p50[-1]:.2f} ms, p99 {found.p99[-1]:.2f} ms")
            held, enclosed = capacity_near(
                lambda rate: self._probe(side, rate, self.lengths.probe).holds, self._near[side.name]
            )
            found.capacities.append(held)
            found.enclosed.append(enclosed)
            self._near[side.name] = held or found.shots[-1].rate
            if side.name == OURS and held:
                found.steady.append(self._shoot(side, STEADY * found.capacity, self.lengths.probe))

    def _alone(self, side: Side, seconds: float) -> list[float]:
        visitors = self._draw(20_000)
        side.transport.expect(visitors)
        try:
            with quick_switches():
                return one_at_a_time(side.transport, len(visitors.users), seconds)
        except RuntimeError as error:
            raise SideError(f"{side.name}: {error}") from error

    def _probe(self, side: Side, rate: float, seconds: float) -> Shot:
        shot = self._shoot(side, rate, seconds)
        self.findings[side.name].shots.append(shot)
        self.say(f"{side.name}: {describe(shot)}")
        if side.learns and not shot.holds:
            side.restart()
            self._alone(side, 0.5)
        return shot

    def _shoot(self, side: Side, rate: float, seconds: float) -> Shot:
        self._seeds += 1
        return shoot(
            side.transport,
            side.cpu,
            self.audience,
            self.session,
            self.slo,
            rate,
            seconds=seconds,
            warm_up=self.lengths.warm_up,
            seed=self._seeds,
        )

    def _draw(self, count: int) -> Visitors:
        self._seeds += 1
        return self.audience.draw(count, self.session, self._seeds)

    @contextmanager
    def _awake(self, side: Side) -> Iterator[None]:
        side.wake()
        try:
            side.wait(AGAIN)
            time.sleep(SETTLE)
            self._alone(side, 0.5)
            yield
        finally:
            side.rest()


def describe(shot: Shot) -> str:
    """One probe on one line."""
    verdict = "held" if shot.holds else "missed" if shot.complete else "missed, broken off"
    failed = f", {shot.failed} failed: {', '.join(shot.problems)}" if shot.failed else ""
    return f"{shot.rate:6.0f}/s  p50 {shot.p50:.1f}  p99 {shot.p99:.1f} ms  {verdict}{failed}"


def _plain(visitors: Visitors) -> list[tuple[int, list[int]]]:
    """Users and the items of their sessions, without padding."""
    pairs = zip(visitors.users.tolist(), visitors.sessions.tolist(), strict=True)
    return [(user, [item for item in items if item != PADDING_ID]) for user, items in pairs]
