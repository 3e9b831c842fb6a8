"""Work that steps back behind requests."""

from __future__ import annotations

import os
import threading

import pytest

from python_backend.background import NICENESS, in_background, may_step_forward, step_forward


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_the_work_steps_back_and_the_caller_does_not() -> None:
    before = niceness()

    assert in_background(niceness) == max(before, NICENESS)
    assert niceness() == before


def test_the_work_is_done_when_the_call_returns() -> None:
    threads = threading.active_count()

    assert in_background(lambda: sum(range(100_000))) == 4_999_950_000
    assert threading.active_count() == threads


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 // 0)


def test_stepping_forward_is_tried_in_a_thread_that_ends() -> None:
    before = niceness()
    allowed = may_step_forward()

    assert niceness() == before
    assert in_background(lambda: (step_forward(before), niceness())) == (
        allowed,
        before if allowed else max(before, NICENESS),
    )
