"""What a load test saw: counts and latencies per step and kind of request, and over time."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tools.load.histogram import Histogram
from tools.load.schedule import Step

RECOMMEND, RECORD_EVENT = "recommend", "record_event"
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(slots=True)
class Tally:
    """Requests of one kind: how many arrived, and what became of them."""

    latency: Histogram = field(default_factory=Histogram)
    """Of the answered ones, from their intended start."""
    errors: Counter[str] = field(default_factory=Counter)
    """By gRPC's name of the status, or by what was wrong with the answer."""
    failed_after: Histogram = field(default_factory=Histogram)
    """How long after their intended start the failed ones ended."""
    skipped: int = 0
    degraded: int = 0
    """Pages with a status that says that the server cut something."""

    @property
    def answered(self) -> int:
        return len(self.latency)

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def arrivals(self) -> int:
        return self.answered + self.failed + self.skipped

    def merge(self, other: Tally) -> None:
        """Count what `other` counted, too."""
        self.latency.merge(other.latency)
        self.errors.update(other.errors)
        self.failed_after.merge(other.failed_after)
        self.skipped += other.skipped
        self.degraded += other.degraded

    def figures(self) -> dict[str, Any]:
        """The tally for a JSON; milliseconds, None where there is no number."""
        latency = {f"p{percent:g}": self.latency.percentile(percent) for percent in PERCENTILES}
        latency |= {"max": self.latency.percentile(100), "mean": self.latency.mean}
        return {
            "arrivals": self.arrivals,
            "answered": self.answered,
            "failed": self.failed,
            "skipped": self.skipped,
            "degraded": self.degraded,
            "errors": dict(self.errors),
            "failed_after_ms": {
                f"p{percent:g}": round(self.failed_after.percentile(percent), 3)
                for percent in PERCENTILES
                if self.failed
            },
            "latency_ms": {
                name: round(value, 3) if np.isfinite(value) else None for name, value in latency.items()
            },
            "histogram_us": self.latency.encode(),
        }


@dataclass(slots=True)
class Second:
    """A second of intended starts: latencies in milliseconds, counts, and answers that came in it."""

    latencies: list[float] = field(default_factory=list)
    arrivals: int = 0
    failed: int = 0
    skipped: int = 0
    answers: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that ended: for those who want to know each, as locust does."""

    kind: str
    intended: float
    milliseconds: float
    problem: str | None


class Recording:
    """Collects what became of requests, from any thread.

    `intended` is always seconds from the schedule's beginning. Requests of steps that are not counted show
    up over time, but in no tally.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        self.tallies: list[dict[str, Tally]] = [{} for _ in steps]
        self.seconds: dict[int, Second] = {}
        self.sent_late = Histogram()
        """How long after their intended start requests left the generator."""
        self.seen: deque[Seen] = deque()
        """Requests that ended and that nobody has taken from here yet."""
        self.problems: dict[str, str] = {}
        """One message for each kind of error."""
        self._ends = np.cumsum([step.seconds for step in steps])
        self._lock = threading.Lock()

    def sent(self, late: float) -> None:
        """A request leaves, `late` seconds after its intended start."""
        with self._lock:
            self.sent_late.add(max(0.0, late) * 1000)

    def answered(self, kind: str, intended: float, now: float, *, degraded: bool = False) -> None:
        """The answer came, `now`."""
        milliseconds = (now - intended) * 1000
        with self._lock:
            tally = self._tally(kind, intended)
            tally.latency.add(milliseconds)
            tally.degraded += degraded
            self._second(now).answers += 1
            if kind == RECOMMEND:
                second = self._second(intended)
                second.arrivals += 1
                second.latencies.append(milliseconds)
        self.seen.append(Seen(kind, intended, milliseconds, None))

    def failed(self, kind: str, intended: float, now: float, error: str, words: str = "") -> None:
        """An error came, `now`, or what came was wrong."""
        with self._lock:
            tally = self._tally(kind, intended)
            tally.errors[error] += 1
            tally.failed_after.add((now - intended) * 1000)
            self.problems.setdefault(error, words)
            second = self._second(intended)
            second.arrivals += kind == RECOMMEND
            second.failed += 1
        self.seen.append(Seen(kind, intended, (now - intended) * 1000, error))

    def skipped(self, kind: str, intended: float) -> None:
        """It was not sent, since it was too late or too many were under way."""
        with self._lock:
            self._tally(kind, intended).skipped += 1
            second = self._second(intended)
            second.arrivals += kind == RECOMMEND
            second.skipped += 1

    def counted(self) -> list[tuple[Step, dict[str, Tally]]]:
        """The steps that count, and their tallies by kind."""
        pairs = zip(self.steps, self.tallies, strict=True)
        return [(step, tallies) for step, tallies in pairs if step.counted]

    def totals(self) -> dict[str, Tally]:
        """All counted steps together, by kind."""
        total: dict[str, Tally] = {}
        for _, tallies in self.counted():
            for kind, tally in tallies.items():
                total.setdefault(kind, Tally()).merge(tally)
        return total

    def recent(self, now: float, seconds: int = 3) -> tuple[float, float]:
        """p50 and p99 of the last whole seconds, for showing progress; NaN where there is nothing."""
        with self._lock:
            found = [
                latency
                for number in range(int(now) - seconds, int(now) + 1)
                for latency in (self.seconds[number].latencies if number in self.seconds else ())
            ]
        if not found:
            return float("nan"), float("nan")
        middle, tail = np.percentile(found, (50, 99))
        return float(middle), float(tail)

    def over_time(self) -> dict[str, list[float | None]]:
        """A column per figure, a row per second: rates, counts, and latency percentiles of `recommend`."""
        rows: dict[str, list[float | None]] = {
            name: []
            for name in ("second", "arrivals", "answers", "failed", "skipped", "p50", "p90", "p99", "max")
        }
        for number in range(math.ceil(self._ends[-1] - 1e-9)):
            second = self.seconds.get(number, Second())
            values: list[float | None] = [None] * 4
            if second.latencies:
                found = np.percentile(second.latencies, (50, 90, 99, 100))
                values = [round(float(value), 3) for value in found]
            counts = (number, second.arrivals, second.answers, second.failed, second.skipped)
            for name, value in zip(rows, (*counts, *values), strict=True):
                rows[name].append(value)
        return rows

    def _tally(self, kind: str, intended: float) -> Tally:
        step = min(int(np.searchsorted(self._ends, intended, side="right")), len(self.steps) - 1)
        return self.tallies[step].setdefault(kind, Tally())

    def _second(self, at: float) -> Second:
        return self.seconds.setdefault(int(at), Second())
