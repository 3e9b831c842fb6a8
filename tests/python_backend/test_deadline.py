"""Until when is an answer of use?"""

from __future__ import annotations

import math
import time

import pytest

from python_backend.deadline import milliseconds_left
from python_backend.stages.base import InvalidRequest


@pytest.mark.parametrize("parameters", ["", "{}", '{"colour": "red"}'])
def test_a_request_without_a_deadline_can_wait_for_ever(parameters: str) -> None:
    assert milliseconds_left(parameters) == math.inf


def test_time_is_left_before_the_deadline_and_negative_after_it() -> None:
    assert milliseconds_left('{"deadline_ms": 5250}', now=5.0) == 250
    assert milliseconds_left('{"deadline_ms": 5250}', now=6.0) == -750


def test_the_clock_is_unix_time() -> None:
    in_a_minute = round(time.time() * 1000) + 60_000

    assert 59_000 < milliseconds_left(f'{{"deadline_ms": {in_a_minute}}}') <= 60_001


@pytest.mark.parametrize("deadline", ['"soon"', "true", "null", "12.5", "[1]"])
def test_a_deadline_that_is_no_integer_is_refused(deadline: str) -> None:
    with pytest.raises(InvalidRequest, match=r"deadline_ms: found .*; allowed is an integer"):
        milliseconds_left(f'{{"deadline_ms": {deadline}}}')
