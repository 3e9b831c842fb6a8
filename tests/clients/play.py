"""Carries out the courses of calls as a script says: with a clock of our own and no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tritonrec_client import Acknowledgement, Experiment, Feedback, Page, Request, Retry, Timeout
from tritonrec_client.contract import RECOMMEND, RECORD_EVENT, Model, Sizes, release_to_wire
from tritonrec_client.course import Answer, Courses, Failure, Infer, Pause, ReadShape, Step
from tritonrec_client.exchange import Exchange
from tritonrec_client.feedback import check_events
from tritonrec_client.request import ModelShape, check

RELEASE = "00ab12cd34ef"
GONE = Failure("UNAVAILABLE", "connection refused")
SLOW = Failure("DEADLINE_EXCEEDED", "Deadline Exceeded")
Reply = Answer | tuple[float, Answer]


def shape_of(session: int = 3, results: int = 2, max_batch: int = 8, model: Model = RECOMMEND) -> ModelShape:
    """The shape of a served model with these widths."""
    sizes = Sizes(session=session, results=results)
    tensors = (*model.inputs, *model.outputs)
    return ModelShape({tensor.name: tensor.resolve(sizes) for tensor in tensors}, max_batch)


SHAPE = shape_of()
RECORD_SHAPE = shape_of(model=RECORD_EVENT)


def answer(results: int = 2, rows: int = 1, release: str = RELEASE) -> dict[str, Any]:
    """An answer of the ensemble."""
    kinds = {"INT64": np.int64, "INT32": np.int32, "FP32": np.float32}
    sizes = Sizes(results=results)
    outputs: dict[str, Any] = {
        tensor.name: np.ones((rows, tensor.resolve(sizes)), kinds[tensor.dtype])
        for tensor in RECOMMEND.outputs
    }
    for name in outputs:
        if name.endswith("_release"):
            outputs[name][:] = release_to_wire(release)
    return outputs


def acknowledged(*codes: Acknowledgement) -> dict[str, Any]:
    """An answer of record_event; one event was recorded unless told otherwise."""
    rows = np.array([codes or (Acknowledgement.RECORDED,)], np.int32).T
    return {"acknowledged": rows, "record_event_release": np.ones((len(rows), 1), np.int64)}


class Play:
    """The servers ``a``, ``b``, … of a script: each reply answers one network step.

    A reply ``(seconds, answer)`` takes that long; a pause takes as long as it asks for.
    """

    def __init__(
        self,
        addresses: str = "a",
        timeout: Timeout = Timeout(),  # noqa: B008
        experiment: Experiment | None = None,
        **retry: Any,
    ) -> None:
        self.now = 50.0
        self.addresses = list(addresses)
        courses = Courses(self.addresses, timeout, Retry(**retry), clock=lambda: self.now, draw=lambda: 0.5)
        self.exchange = Exchange(courses, "recommend", experiment)
        self.steps: list[Step] = []

    def recommend(self, *replies: Reply, request: Request = Request(), timeout: Any = None) -> list[Page]:  # noqa: B008
        return self.run(self.exchange.recommend([check(request)], timeout), *replies)  # type: ignore[no-any-return]

    def recommend_many(self, requests: Sequence[Request], *replies: Reply) -> list[Page]:
        checked = [check(request) for request in requests]
        return self.run(self.exchange.recommend(checked, None), *replies)  # type: ignore[no-any-return]

    def record(self, events: Sequence[Feedback], *replies: Reply) -> list[Acknowledgement]:
        return self.run(self.exchange.record(check_events(events), None), *replies)  # type: ignore[no-any-return]

    def connect(self, *replies: Reply) -> None:
        self.run(self.exchange.connect(None), *replies)

    def run(self, course: Any, *replies: Reply) -> Any:
        self.steps = []
        left = list(replies)
        value: Answer = None
        try:
            while True:
                step = course.send(value)
                self.steps.append(step)
                if isinstance(step, Pause):
                    self.now += step.seconds
                    value = None
                    continue
                reply = left.pop(0)
                seconds, value = reply if isinstance(reply, tuple) else (0.0, reply)
                self.now += seconds
        except StopIteration as end:
            assert not left, "the course ended before the script"
            return end.value

    @property
    def inferences(self) -> list[Infer]:
        return [step for step in self.steps if isinstance(step, Infer)]

    @property
    def asked(self) -> str:
        """Addresses asked to infer, in order."""
        return "".join(step.address for step in self.inferences)

    @property
    def models(self) -> list[str]:
        """The models of every step that went to a server, in order."""
        return [step.model.name for step in self.steps if isinstance(step, Infer | ReadShape)]

    @property
    def pauses(self) -> list[float]:
        return [step.seconds for step in self.steps if isinstance(step, Pause)]

    def know(self, **shapes: ModelShape) -> Play:
        """Connect to every server."""
        self.connect(*(shapes.get(address, SHAPE) for address in self.addresses))
        return self
