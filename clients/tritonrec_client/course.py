"""The course of a call without its input and output: who is asked what, when, and what follows.

`Courses` writes each call as a generator that yields steps (read a model's shape, infer, pause) and is sent
what came of them. `Client` and `AsyncClient` only carry the steps out, so whatever there is to decide is
decided here, once for both, and can be tested with a clock of one's own.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tritonrec_client.addresses import Addresses
from tritonrec_client.contract import Model
from tritonrec_client.errors import (
    DeadlineExceeded,
    InvalidRequest,
    RecommendError,
    ServerError,
    Unavailable,
)
from tritonrec_client.options import Retry, Timeout
from tritonrec_client.request import Arrays, ModelShape

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Question(Generic[Result]):
    """What a model is asked in one inference, and what its answer means."""

    model: Model
    """The tensors that travel, and the name under which the model is served."""
    stack: Callable[[ModelShape], Arrays]
    """The inputs for a model of that shape. Raises InvalidRequest where it is exceeded."""
    decode: Callable[[Arrays], Result]
    """What the outputs say."""
    otherwise: Question[Result] | None = None
    """What is asked instead where `model` is not served."""


@dataclass(frozen=True, slots=True)
class ReadShape:
    """A step: ask `address` for the model's configuration; the answer is a ModelShape or a Failure."""

    address: str
    timeout: float
    model: Model


@dataclass(frozen=True, slots=True)
class Infer:
    """A step: send `inputs` to the model at `address`; the answer is the outputs' arrays or a Failure."""

    address: str
    timeout: float
    model: Model
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

    @property
    def is_absence(self) -> bool:
        """Whether the model is not served here: never loaded, or unloaded, or the server is stopping."""
        return self.status == "NOT_FOUND" or self.words.endswith(UNLOADED)


Step = ReadShape | Infer | Pause
Answer = ModelShape | Arrays | Failure | None
Course = Generator[Step, Answer, Result]

UNLOADED = "has no available versions"
"""How Triton's words end for a model that it had loaded once."""

NO_TIME = 0.001
"""Seconds below which what is left of a deadline is not worth an attempt."""

ABSENT_FOR = 5.0
"""Seconds for which a model that was not served is not asked for again where there is another."""


@dataclass(slots=True)
class _Call:
    """One call's deadline and what has failed in it."""

    timeout: Timeout
    clock: Callable[[], float]
    started: float
    failures: list[tuple[str, Failure]] = field(default_factory=list)

    def left(self) -> float:
        return self.started + self.timeout.total - self.clock()

    def limit(self) -> float:
        """Seconds that the next step may take. Raises DeadlineExceeded where none are left."""
        left = self.left()
        if left < NO_TIME:
            raise _deadline_exceeded(self)
        return left if self.timeout.attempt is None else min(left, self.timeout.attempt)


class Courses:
    """The addresses, the limits, and what is known of the models served at each address."""

    def __init__(
        self,
        addresses: Sequence[str],
        timeout: Timeout,
        retry: Retry,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.addresses = Addresses(addresses, retry.set_aside, clock)
        self._timeout = timeout
        self._retry = retry
        self._clock = clock
        self._draw = draw
        self._shapes: dict[tuple[str, str], ModelShape] = {}
        self._absent_until: dict[tuple[str, str], float] = {}

    def connect(self, model: Model, timeout: Timeout | float | None) -> Course[None]:
        """The course of reading the model's shape at every address; one that answers is enough."""
        call = self._call(timeout, self._clock())
        for asked, address in enumerate(self.addresses.all):
            share = call.left() / (len(self.addresses.all) - asked)
            answer = yield ReadShape(address, min(call.limit(), share), model)
            if isinstance(answer, ModelShape):
                self._shapes[address, model.name] = answer
            elif isinstance(answer, Failure):
                call.failures.append((address, answer))
                self.addresses.failed(address)
        if len(call.failures) == len(self.addresses.all):
            raise _gave_up(call)

    def ask(
        self, questions: Sequence[Question[Result]], timeout: Timeout | float | None
    ) -> Course[list[Result]]:
        """The course of one inference after the other, all within one deadline."""
        started = self._clock()
        results = []
        for question in questions:
            results.append((yield from self._answer(self._call(timeout, started), question)))
        return results

    def _call(self, timeout: Timeout | float | None, started: float) -> _Call:
        return _Call(self._timeout if timeout is None else Timeout.of(timeout), self._clock, started)

    def _answer(self, call: _Call, question: Question[Result]) -> Course[Result]:
        """One inference, at one address after the other."""
        while True:
            call.limit()
            address = self.addresses.take()
            outcome = yield from self._attempt(call, address, question)
            if not isinstance(outcome, Failure):
                self.addresses.succeeded(address)
                if isinstance(outcome, InvalidRequest):
                    raise outcome
                return outcome
            call.failures.append((address, outcome))
            if pause := self._next_pause(call):
                yield Pause(pause)

    def _attempt(
        self, call: _Call, address: str, question: Question[Result]
    ) -> Course[Result | Failure | InvalidRequest]:
        """One attempt at `address`: the question, or what is asked otherwise where its model is absent."""
        if question.otherwise is None:
            return (yield from self._ask(call, address, question))
        place = (address, question.model.name)
        if self._clock() >= self._absent_until.get(place, float("-inf")):
            outcome = yield from self._ask(call, address, question)
            if not (isinstance(outcome, Failure) and outcome.is_absence):
                return outcome
            self._absent_until[place] = self._clock() + ABSENT_FOR
        return (yield from self._attempt(call, address, question.otherwise))

    def _ask(
        self, call: _Call, address: str, question: Question[Result]
    ) -> Course[Result | Failure | InvalidRequest]:
        """One inference at `address`.

        A refusal under a shape that was read earlier may mean that another release is served by now, with
        other widths; so the shape is read again, and where it changed the question is stacked anew.
        """
        place = (address, question.model.name)
        known = self._shapes.get(place)
        refusal: Result | Failure | InvalidRequest | None = None
        if known is not None:
            refusal = yield from self._infer(call, address, question, known)
            if not _is_refused(refusal):
                return refusal
        answer = yield ReadShape(address, call.limit(), question.model)
        if isinstance(answer, Failure):
            return answer
        assert isinstance(answer, ModelShape)
        self._shapes[place] = answer
        if refusal is not None and answer == known:
            return refusal
        return (yield from self._infer(call, address, question, answer))

    def _infer(
        self, call: _Call, address: str, question: Question[Result], shape: ModelShape
    ) -> Course[Result | Failure | InvalidRequest]:
        try:
            inputs = question.stack(shape)
        except InvalidRequest as error:
            return error
        model = question.model
        answer = yield Infer(address, call.limit(), model, inputs)
        if isinstance(answer, Failure):
            return answer
        assert isinstance(answer, dict)
        if missing := [output.name for output in model.outputs if output.name not in answer]:
            return Failure("FAILED_PRECONDITION", f"the answer of {model.name!r} lacks {', '.join(missing)}")
        return question.decode(answer)

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


def _is_refused(outcome: object) -> bool:
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
