"""Time limits, retries and keepalive refuse what makes no sense."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonrec_client import Keepalive, Retry, Timeout


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, True, "1", None])
def test_times_are_finite_seconds_above_zero(value: Any) -> None:
    with pytest.raises(ValueError, match=r"total is .*above 0"):
        Timeout(total=value)
    with pytest.raises(ValueError, match=r"interval is .*above 0"):
        Keepalive(interval=value)


def test_a_number_is_a_total() -> None:
    assert Timeout.of(0.25) == Timeout(total=0.25, attempt=None)
    assert Timeout.of(Timeout(2, 1)) == Timeout(total=2, attempt=1)


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_attempts_are_counted_from_one(value: Any) -> None:
    with pytest.raises(ValueError, match="attempts is"):
        Retry(attempts=value)


@pytest.mark.parametrize("name", ["backoff", "longest", "set_aside"])
def test_pauses_are_not_negative(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -1"):
        Retry(**{name: -1})  # type: ignore[arg-type]


def test_without_jitter_pauses_double_up_to_the_longest() -> None:
    retry = Retry(backoff=0.1, longest=0.5, jitter=False)
    assert [retry.pause(failures, 0.3) for failures in (1, 2, 3, 4, 5000)] == [0.1, 0.2, 0.4, 0.5, 0.5]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_with_jitter_a_pause_lies_anywhere_between_nothing_and_its_bound(failures: int, draw: float) -> None:
    retry = Retry(backoff=0.1, longest=0.5)
    bound = Retry(backoff=0.1, longest=0.5, jitter=False).pause(failures, draw)
    assert retry.pause(failures, draw) == pytest.approx(bound * draw)
