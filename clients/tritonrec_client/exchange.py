"""The course of a call without its input and output: who is asked what, when, and what follows.

`Exchange` writes each call as a generator that yields steps (read the model's shape, infer, pause) and
is sent what came of them. `Client` and `AsyncClient` only carry the steps out, so whatever there is to
decide is decided here, once for both, and can be tested with a clock of one's own.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tritonrec_client.addresses import Addresses
from tritonrec_client.errors import (
    DeadlineExceeded,
    InvalidRequest,
    RecommendError,
    ServerError,
    Unavailable,
)
from tritonrec_client.options import Retry, Timeout
from tritonrec_client.page import Page, decode, missing_outputs
from tritonrec_client.request import Arrays, Checked, ModelShape, stack


@dataclass(frozen=True, slots=True)
class ReadShape:
    """A step: ask `address` for the model's configuration; the answer is a ModelShape or a Failure."""

    address: str
    timeout: float


@dataclass(frozen=True, slots=True)
class Infer:
    """A step: send `inputs` to `address`; the answer is the outputs' arrays or a Failure."""

    address: str
    timeout: float
    inputs: Arrays


@dataclass(frozen=True, slots=True)
class Pause:
    """A step: wait; the answer is None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """What came of a step that failed: gRPC's name of the status and the words that came with it."""

    status: str
    words: str


Step = ReadShape | Infer | Pause
Answer = ModelShape | Arrays | Failure | None
Result = TypeVar("Result")
Course = Generator[Step, Answer, Result]
Outcome = list[Page] | Failure | InvalidRequest

NO_TIME = 0.001
"""Seconds below which what is left of a deadline is not worth an attempt."""


@dataclass(slots=True)
class _Call:
    """One call's deadline and what has failed in it."""

    timeout: Timeout
    clock: Callable[[], float]
    started: float = 0.0
    failures: list[tuple[str, Failure]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def left(self) -> float:
        return self.started + self.timeout.total - self.clock()

    def limit(self) -> float:
        """Seconds that the next step may take. Raises DeadlineExceeded where none are left."""
        left = self.left()
        if left < NO_TIME:
            raise _deadline_exceeded(self)
        return left if self.timeout.attempt is None else min(left, self.timeout.attempt)


class Exchange:
    """What the clients share: the addresses, the options, and the shape of the model served at each."""

    def __init__(
        self,
        model: str,
        addresses: Sequence[str],
        timeout: Timeout,
        retry: Retry,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.model = model
        self.addresses = Addresses(addresses, retry.set_aside, clock)
        self._timeout = timeout
        self._retry = retry
        self._clock = clock
        self._draw = draw
        self._shapes: dict[str, ModelShape] = {}

    def connect(self, timeout: Timeout | float | None) -> Course[None]:
        """The course of reading every address's model shape; one that answers is enough."""
        call = self._call(timeout)
        for asked, address in enumerate(self.addresses.all):
            share = call.left() / (len(self.addresses.all) - asked)
            answer = yield ReadShape(address, min(call.limit(), share))
            if isinstance(answer, ModelShape):
                self._shapes[address] = answer
            elif isinstance(answer, Failure):
                call.failures.append((address, answer))
                self.addresses.failed(address)
        if len(call.failures) == len(self.addresses.all):
            raise _gave_up(call)

    def recommend(self, requests: Sequence[Checked], timeout: Timeout | float | None) -> Course[list[Page]]:
        """The course of one inference for all `requests`, at one address after the other."""
        if not requests:
            return []
        call = self._call(timeout)
        while True:
            call.limit()
            address = self.addresses.take()
            outcome = yield from self._ask(call, address, requests)
            if not isinstance(outcome, Failure):
                self.addresses.succeeded(address)
                if isinstance(outcome, InvalidRequest):
                    raise outcome
                return outcome
            call.failures.append((address, outcome))
            if pause := self._next_pause(call):
                yield Pause(pause)

    def _call(self, timeout: Timeout | float | None) -> _Call:
        return _Call(self._timeout if timeout is None else Timeout.of(timeout), self._clock)

    def _ask(self, call: _Call, address: str, requests: Sequence[Checked]) -> Course[Outcome]:
        """One attempt at `address`.

        A refusal under a shape that was read earlier may mean that another release is served by now, with
        other widths; so the shape is read again, and where it changed the requests are stacked anew.
        """
        known = self._shapes.get(address)
        outcome: Outcome = []
        if known is not None:
            outcome = yield from self._infer(call, address, requests, known)
            if not _is_refused(outcome):
                return outcome
        answer = yield ReadShape(address, call.limit())
        if isinstance(answer, Failure):
            return answer
        assert isinstance(answer, ModelShape)
        self._shapes[address] = answer
        if answer == known:
            return outcome
        return (yield from self._infer(call, address, requests, answer))

    def _infer(
        self, call: _Call, address: str, requests: Sequence[Checked], shape: ModelShape
    ) -> Course[Outcome]:
        try:
            inputs = stack(requests, shape)
        except InvalidRequest as error:
            return error
        answer = yield Infer(address, call.limit(), inputs)
        if isinstance(answer, Failure):
            return answer
        assert isinstance(answer, dict)
        if missing := missing_outputs(answer):
            return Failure("FAILED_PRECONDITION", f"the answer of {self.model!r} lacks {', '.join(missing)}")
        return decode(answer, [request.count for request in requests])

    def _next_pause(self, call: _Call) -> float:
        """Seconds before the next attempt, or the error that ends the call."""
        address, failure = call.failures[-1]
        timed_out = failure.status == "DEADLINE_EXCEEDED"
        if not timed_out and failure.status not in self._retry.statuses:
            self.addresses.succeeded(address)  # it answered, if only to refuse
            raise _refusal(address, failure)
        self.addresses.failed(address)
        if call.left() < NO_TIME or (timed_out and call.timeout.attempt is None):
            raise _deadline_exceeded(call)
        pause = 0.0
        if not self.addresses.has_other([tried for tried, _ in call.failures]):
            pause = self._retry.pause(len(call.failures), self._draw())
        if len(call.failures) >= self._retry.attempts or call.left() - pause < NO_TIME:
            raise _gave_up(call)
        return pause


def _is_refused(outcome: Outcome) -> bool:
    if isinstance(outcome, Failure):
        return outcome.status == "INVALID_ARGUMENT"
    return isinstance(outcome, InvalidRequest)


def _deadline_exceeded(call: _Call) -> DeadlineExceeded:
    if not call.failures:
        return DeadlineExceeded(call.timeout.total, 1, "the time was over before the request was sent")
    address, failure = call.failures[-1]
    return DeadlineExceeded(call.timeout.total, len(call.failures), f"{address}: {failure.words}")


def _gave_up(call: _Call) -> RecommendError:
    address, failure = call.failures[-1]
    if failure.status == "DEADLINE_EXCEEDED":
        return _deadline_exceeded(call)
    if failure.status != "UNAVAILABLE":
        return _refusal(address, failure)
    tried = tuple(dict.fromkeys(address for address, _ in call.failures))
    return Unavailable(tried, len(call.failures), f"{address}: {failure.words}")


_STAGE_REFUSAL = re.compile(r"(?P<field>\w+): found (?P<found>.*?); allowed is (?P<allowed>.*)", re.DOTALL)
"""How the pipeline's stages word what is wrong with a request."""


def _refusal(address: str, failure: Failure) -> RecommendError:
    if worded := _STAGE_REFUSAL.search(failure.words):
        return InvalidRequest(worded["field"], worded["found"], worded["allowed"].strip())
    return ServerError(address, failure.status, failure.words)
