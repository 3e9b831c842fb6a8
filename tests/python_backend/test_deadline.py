"""Until when is an answer of use?"""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_backend.deadline import Admission, milliseconds_left
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


def test_before_anything_is_known_a_request_needs_the_margin_alone() -> None:
    assert Admission(20).choose([19, 20, math.inf], [1, 1, 64]) == [20, None, None]


def learned(*batches: tuple[int, float], margin: float = 5.0) -> Admission:
    admission = Admission(margin)
    for rows, milliseconds in batches:
        admission.observe(rows, milliseconds)
    return admission


def test_how_long_a_batch_takes_is_learned_as_a_line_over_its_rows() -> None:
    admission = learned(*[(1, 3.0), (11, 13.0), (31, 33.0)] * 5)

    assert admission.needed(1) == pytest.approx(5 + 3)
    assert admission.needed(64) == pytest.approx(5 + 66)


def test_batches_that_take_now_this_long_and_now_that_need_more_time() -> None:
    steady = learned(*[(8, 10.0), (16, 20.0)] * 50)
    unsteady = learned(*[(8, 5.0), (8, 15.0), (16, 15.0), (16, 25.0)] * 25)

    assert steady.needed(16) == pytest.approx(5 + 20, abs=0.1)
    assert unsteady.needed(16) == pytest.approx(5 + 20 + 2 * 5, rel=0.1)


def test_batches_of_one_size_teach_what_a_row_takes() -> None:
    assert learned((4, 8.0), (4, 8.0)).needed(8) == pytest.approx(5 + 16)


def test_what_happened_lately_counts_more() -> None:
    admission = learned(*[(1, 2.0)] * 100, *[(1, 10.0)] * 50)

    # The change itself is remembered as unsteadiness for a while.
    assert 5 + 9.5 < admission.needed(1) < 5 + 13


def test_of_a_batch_that_cannot_be_in_time_those_with_the_most_time_are_computed() -> None:
    admission = learned((10, 10.0), (20, 20.0))  # a row takes a millisecond
    refused = admission.choose([8, 30, 7.5, 9, 8.5], [1, 1, 1, 1, 1])

    assert [needed is None for needed in refused] == [False, True, False, True, True]
    assert refused[0] == pytest.approx(5 + 4)


def test_who_has_all_the_time_in_the_world_is_computed_and_counted() -> None:
    admission = learned((10, 10.0), (20, 20.0))

    assert admission.choose([math.inf, 30], [64, 1]) == [None, pytest.approx(5 + 65)]


@given(
    left=st.lists(st.floats(-100, 1000), max_size=64),
    rows=st.integers(1, 8),
    batches=st.lists(st.tuples(st.integers(1, 64), st.floats(0.01, 500)), max_size=20),
)
def test_whoever_is_accepted_has_the_time_that_the_batch_needs(
    left: list[float], rows: int, batches: list[tuple[int, float]]
) -> None:
    admission = learned(*batches)
    refused = admission.choose(left, [rows] * len(left))
    accepted = [time for time, needed in zip(left, refused, strict=True) if needed is None]

    if len(accepted) > 1:
        assert all(time >= admission.needed(rows * len(accepted)) - 1e-6 for time in accepted)
    assert all(time >= 5 for time in accepted)
    assert bool(accepted) == any(time >= 5 for time in left)
    assert all(needed >= 5 for needed in refused if needed is not None)


def test_who_believes_to_have_no_time_tries_one_request_and_learns_that_it_has() -> None:
    admission = learned(*[(1, 900.0), (8, 1000.0)] * 20)
    before = admission.choose([50.0] * 8, [1] * 8)
    for _ in range(100):
        admission.observe(1, 3.0)
    after = admission.choose([50.0] * 8, [1] * 8)

    assert [needed is None for needed in before] == [True] + [False] * 7
    assert after == [None] * 8
