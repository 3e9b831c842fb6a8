"""The generator on a clock of its own: time passes where it waits and where a test says so."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tools.load.generator import Done, FollowUp, Generator, Outcome
from tools.load.recording import RECORD_EVENT
from tools.load.schedule import Schedule, Step


class Clock:
    """Stands still, except while somebody waits; `calls` are due at their times, as answers are."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[tuple[float, Done, Outcome]] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        self.calls.sort(key=lambda call: call[0])
        end = self.now + seconds
        if self.calls and self.calls[0][0] <= end:
            due, done, outcome = self.calls.pop(0)
            self.now = max(self.now, due)
            condition.release()
            done(outcome)
            condition.acquire()
        else:
            self.now = end + 1e-9  # a number that is rounded down would never be reached


class OneAtATime:
    """A server that works on one request at a time: each takes as long as `service` says for its number."""

    def __init__(self, clock: Clock, service: dict[int, float], otherwise: float) -> None:
        self._clock = clock
        self._service = service
        self._otherwise = otherwise
        self._free = 0.0
        self.sent: list[float] = []
        self.outcome = Outcome()

    def send(self, number: int, done: Done) -> None:
        self.sent.append(self._clock.now)
        self._free = max(self._free, self._clock.now) + self._service.get(number, self._otherwise)
        self._clock.calls.append((self._free, done, self.outcome))


class Slowly:
    """A generator's machine that stalls for `seconds` when it sends number `at`; answers come at once."""

    def __init__(self, clock: Clock, at: int, seconds: float) -> None:
        self._clock, self._at, self._seconds = clock, at, seconds

    def send(self, number: int, done: Done) -> None:
        self._clock.now += self._seconds if number == self._at else 0.0
        done(Outcome())


def every(gap: float, count: int) -> Schedule:
    at = gap * np.arange(1, count + 1)
    return Schedule((Step(1 / gap, gap * (count + 1)),), at, np.zeros(count, np.int64))


def run(transport: object, clock: Clock, schedule: Schedule, **options: float) -> Generator:
    generator = Generator(transport, schedule, clock=clock, wait=clock.wait, **options)  # type: ignore[arg-type]
    generator.run()
    return generator


def test_a_stall_of_the_server_delays_everybody_who_should_have_started_meanwhile() -> None:
    clock = Clock()
    # Every 10 ms somebody comes and needs 1 ms; number 100 holds the server for a second.
    transport = OneAtATime(clock, {100: 1.0}, 0.001)
    tally = run(transport, clock, every(0.01, 500)).recording.totals()["recommend"]
    assert tally.answered == 500
    # A closed loop would have met the stall once and would report a p99 of 1 ms. Those who came during the
    # stall, a fifth of all, waited for what was left of it.
    assert tally.latency.percentile(50) == pytest.approx(1, rel=0.01)
    assert tally.latency.percentile(90) > 300
    assert tally.latency.percentile(99) == pytest.approx(960, rel=0.05)
    assert np.diff(transport.sent) == pytest.approx(0.01, abs=1e-6), "arrivals do not wait for answers"


def test_latency_counts_from_the_intended_start_when_the_generator_itself_is_late() -> None:
    clock = Clock()
    recording = run(Slowly(clock, 10, 0.5), clock, every(0.01, 100)).recording
    tally = recording.totals()["recommend"]
    assert tally.skipped == 0
    assert tally.latency.percentile(100) == pytest.approx(500, rel=0.01)
    # The others were sent at once afterwards, late by what was left of the stall, and that is told, too.
    assert tally.latency.percentile(60) > 90
    assert recording.sent_late.percentile(100) == pytest.approx(490, rel=0.01)


def test_what_could_not_be_sent_in_time_is_counted_as_skipped() -> None:
    clock = Clock()
    recording = run(Slowly(clock, 10, 0.5), clock, every(0.01, 100), patience=0.2).recording
    tally = recording.totals()["recommend"]
    # Due 10 to 290 ms after the stall began; at its end, 490 to 210 ms late.
    assert tally.skipped == pytest.approx(30, abs=1)
    assert tally.arrivals == 100
    assert tally.answered == 100 - tally.skipped
    assert sum(recording.over_time()["skipped"]) == tally.skipped  # type: ignore[arg-type]


def test_with_too_many_requests_under_way_arrivals_are_skipped() -> None:
    clock = Clock()
    transport = OneAtATime(clock, {}, 0.1)
    tally = run(transport, clock, every(0.01, 200), in_flight=5).recording.totals()["recommend"]
    assert len(transport.sent) == tally.answered < 40
    assert tally.skipped == 200 - tally.answered


def test_an_error_is_counted_under_its_name_and_never_as_a_latency() -> None:
    clock = Clock()
    transport = OneAtATime(clock, {}, 0.001)
    transport.outcome = Outcome("UNAVAILABLE", "nobody there")
    recording = run(transport, clock, every(0.01, 50)).recording
    tally = recording.totals()["recommend"]
    assert tally.errors == {"UNAVAILABLE": 50}
    assert tally.answered == 0
    assert recording.problems == {"UNAVAILABLE": "nobody there"}


def test_follow_ups_start_when_they_should_and_count_from_there() -> None:
    clock = Clock()
    sent: list[float] = []

    def event(done: Done) -> None:
        sent.append(clock.now)
        clock.calls.append((clock.now + 0.003, done, Outcome()))

    transport = OneAtATime(clock, {}, 0.001)
    transport.outcome = Outcome(follow_ups=(FollowUp(0.0155, RECORD_EVENT, event),))
    totals = run(transport, clock, every(0.01, 20)).recording.totals()
    # Pages at 10 ms, 20 ms, …, answered after 1 ms; the last one's follow-up falls due after the end.
    assert sent[:3] == pytest.approx([100.0265, 100.0365, 100.0465])
    assert totals[RECORD_EVENT].answered == 19
    assert totals[RECORD_EVENT].latency.percentile(100) == pytest.approx(3, rel=0.01)
    assert totals["recommend"].latency.percentile(100) == pytest.approx(1, rel=0.01)


def test_requests_of_a_warm_up_count_in_no_tally() -> None:
    clock = Clock()
    at = 0.01 * np.arange(1, 201)
    steps = (Step(100, 1, counted=False), Step(100, 1.01))
    schedule = Schedule(steps, at, (at >= 1).astype(np.int64))
    recording = run(OneAtATime(clock, {}, 0.001), clock, schedule).recording
    assert recording.totals()["recommend"].arrivals == 101
    assert sum(recording.over_time()["arrivals"]) == 200  # type: ignore[arg-type]


def test_a_generator_that_is_stopped_sends_nothing_more() -> None:
    clock = Clock()
    transport = OneAtATime(clock, {}, 0.001)
    generator = Generator(transport, every(0.01, 100), clock=clock, wait=clock.wait)
    generator.stop()
    generator.run()
    assert transport.sent == []
