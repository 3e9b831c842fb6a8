"""What the clients share: which models a call asks, with which tensors, and what it gives.

Every method is the course of a call (see `course.py`), which `Client` and `AsyncClient` carry out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from tritonrec_client import contract
from tritonrec_client.contract import Acknowledgement
from tritonrec_client.course import Course, Courses, Question
from tritonrec_client.experiment import Experiment, arm_model
from tritonrec_client.feedback import (
    CheckedEvent,
    decode_acknowledgements,
    decode_forgotten,
    stack_events,
    stack_user,
)
from tritonrec_client.options import Timeout
from tritonrec_client.page import Page, decode
from tritonrec_client.request import Arrays, Checked, stack


class Exchange:
    """What may be asked of the servers: pages of `model` or of an experiment's arms, and feedback."""

    def __init__(self, courses: Courses, model: str, experiment: Experiment | None = None) -> None:
        self._courses = courses
        self._model = replace(contract.RECOMMEND, name=model)
        self._experiment = experiment

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every server's address."""
        return self._courses.addresses.all

    def connect(self, timeout: Timeout | float | None) -> Course[None]:
        """The course of reading the ensemble's shape at every address."""
        return self._courses.connect(self._model, timeout)

    def recommend(self, requests: Sequence[Checked], timeout: Timeout | float | None) -> Course[list[Page]]:
        """The course of one inference for all `requests`; of one per arm where an experiment runs."""
        rows_of: dict[str | None, list[int]] = {}
        for row, request in enumerate(requests):
            rows_of.setdefault(self._arm_of(request.user), []).append(row)
        questions = [
            self._page_question([requests[row] for row in rows], arm) for arm, rows in rows_of.items()
        ]
        groups = yield from self._courses.ask(questions, timeout)
        pages = {
            row: page
            for rows, group in zip(rows_of.values(), groups, strict=True)
            for row, page in zip(rows, group, strict=True)
        }
        return [pages[row] for row in range(len(requests))]

    def record(
        self, events: Sequence[CheckedEvent], timeout: Timeout | float | None
    ) -> Course[list[Acknowledgement]]:
        """The course of recording all `events` by one inference."""
        if not events:
            return []
        question = Question(contract.RECORD_EVENT, partial(stack_events, events), decode_acknowledgements)
        return (yield from self._courses.ask([question], timeout))[0]

    def forget(self, user: int, timeout: Timeout | float | None) -> Course[bool]:
        """The course of forgetting the user with the wire id `user`."""
        question = Question(contract.FORGET_USER, partial(stack_user, user), decode_forgotten)
        return (yield from self._courses.ask([question], timeout))[0]

    def _arm_of(self, user: int) -> str | None:
        if self._experiment is None or user == contract.ANONYMOUS:
            return None
        return self._experiment.arm_of(user)

    def _page_question(self, requests: Sequence[Checked], arm: str | None) -> Question[list[Page]]:
        inputs = partial(stack, requests)
        counts = [request.count for request in requests]
        plain = Question(self._model, inputs, _decoder(counts, None))
        if arm is None:
            return plain
        model = replace(contract.RECOMMEND, name=arm_model(arm))
        return Question(model, inputs, _decoder(counts, arm), otherwise=plain)


def _decoder(counts: Sequence[int | None], arm: str | None) -> Callable[[Arrays], list[Page]]:
    return lambda outputs: decode(outputs, counts, arm)
