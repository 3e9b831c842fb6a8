from __future__ import annotations

import numpy as np
import pytest

from tools.load.schedule import Step, poisson


def test_arrivals_are_a_poisson_process() -> None:
    at = poisson([Step(200, 100)], seed=1).at
    # A count of 20,000 has a standard deviation of 141.
    assert abs(len(at) - 20_000) < 5 * 141
    gaps = np.diff(at)
    assert gaps.min() >= 0
    # Exponential gaps: the standard deviation is the mean, and a share of 1/e is longer than it.
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.05)
    assert (gaps > gaps.mean()).mean() == pytest.approx(np.exp(-1), abs=0.02)
    # Independent: one gap says nothing about the next, and counts per second vary as much as their mean.
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.04
    counts = np.bincount(at.astype(int), minlength=100)
    assert 0.6 < counts.var() / counts.mean() < 1.5


def test_the_same_seed_gives_the_same_arrivals() -> None:
    steps = [Step(50, 3)]
    assert np.array_equal(poisson(steps, 7).at, poisson(steps, 7).at)
    assert not np.array_equal(poisson(steps, 7).at[:10], poisson(steps, 8).at[:10])


def test_each_step_has_its_own_rate_and_time() -> None:
    schedule = poisson([Step(100, 10, counted=False), Step(400, 10)], seed=3)
    assert schedule.seconds == 20
    assert (np.diff(schedule.at) >= 0).all()
    assert ((schedule.at >= 10) == (schedule.step == 1)).all()
    assert np.bincount(schedule.step) == pytest.approx([1000, 4000], rel=0.15)


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (-1, 1), (float("nan"), 1), (1, 0), (1, float("inf"))])
def test_a_rate_or_time_that_is_not_above_0_is_refused_by_name(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="must be a number above 0"):
        Step(rate, seconds)
