"""The open loop: every request starts when the schedule says, whatever became of earlier ones.

A caller that waits for answers before it goes on asks less of a slow server and never notices the time that
its next requests would have waited: coordinated omission (G. Tene, "How NOT to Measure Latency", 2015). So
latency counts from the *intended* start here, and what could not be sent is counted, not forgotten.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from tools.load.recording import RECOMMEND, Recording
from tools.load.schedule import Schedule

Done = Callable[["Outcome"], None]


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A request that an answer leads to, `after` seconds later."""

    after: float
    kind: str
    send: Callable[[Done], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: no `error` means an answer."""

    error: str | None = None
    words: str = ""
    degraded: bool = False
    follow_ups: tuple[FollowUp, ...] = ()


class Transport(Protocol):
    """Sends requests without waiting for them."""

    def send(self, number: int, done: Done) -> None:
        """Send the request of arrival `number`; `done` is called when it ends, from any thread."""


class Generator:
    """Sends the arrivals of a schedule.

    An arrival is *skipped* when its turn comes more than `patience` seconds after its intended start, because
    the generator fell behind, or while `in_flight` requests are unanswered. The `clock` is in seconds, and
    `wait` sleeps on a condition for some of them at most.
    """

    def __init__(
        self,
        transport: Transport,
        schedule: Schedule,
        *,
        patience: float = 1.0,
        in_flight: int = 2000,
        clock: Callable[[], float] = time.perf_counter,
        wait: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        self.schedule = schedule
        self.recording = Recording(schedule.steps)
        self.began = clock()
        self._transport = transport
        self._patience = patience
        self._most = in_flight
        self._clock = clock
        self._wait = wait
        self._condition = threading.Condition()
        self._flying = 0
        self._later: list[tuple[float, int, FollowUp]] = []
        self._tickets = 0
        self._stopped = False

    @property
    def now(self) -> float:
        """Seconds since the schedule began."""
        return self._clock() - self.began

    def stop(self) -> None:
        """Send nothing more."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def run(self, drain: float = 10.0) -> None:
        """Send everything, then wait up to `drain` seconds for the last answers.

        What is unanswered after that is recorded as failed by whoever answers it, or not at all, so give
        requests a timeout below it. Follow-ups that fall due after the schedule's end are not sent.
        """
        self.began = self._clock()
        for number, intended in enumerate(self.schedule.at.tolist()):
            if not self._send_follow_ups(intended):
                break
            self._start(RECOMMEND, intended, partial(self._transport.send, number))
        self._send_follow_ups(self.schedule.seconds)
        end = self.now + drain
        with self._condition:
            while self._flying and self.now < end:
                self._wait(self._condition, min(0.1, drain))

    def _send_follow_ups(self, until: float) -> bool:
        """Send what answers led to, until it is time for the next arrival; False when stopped."""
        while True:
            due = None
            with self._condition:
                if self._stopped:
                    return False
                next_at = min(until, self._later[0][0]) if self._later else until
                ahead = next_at - self.now
                if ahead > 0:
                    self._wait(self._condition, ahead)
                    continue
                if self._later and self._later[0][0] <= until:
                    due = heapq.heappop(self._later)
            if due is None:
                return True
            self._start(due[2].kind, due[0], due[2].send)

    def _start(self, kind: str, intended: float, send: Callable[[Done], None]) -> None:
        late = self.now - intended
        with self._condition:
            is_full = self._flying >= self._most
            if not is_full and late <= self._patience:
                self._flying += 1
            else:
                is_full = True
        if is_full:
            self.recording.skipped(kind, intended)
            return
        self.recording.sent(late)

        def done(outcome: Outcome) -> None:
            now = self.now
            if outcome.error is None:
                self.recording.answered(kind, intended, now, degraded=outcome.degraded)
            else:
                self.recording.failed(kind, intended, now, outcome.error, outcome.words)
            with self._condition:
                self._flying -= 1
                for follow_up in outcome.follow_ups:
                    self._tickets += 1
                    heapq.heappush(self._later, (now + follow_up.after, self._tickets, follow_up))
                if outcome.follow_ups or not self._flying:
                    self._condition.notify_all()

        send(done)
