from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.evaluation.calibration import calibration


def test_bins_hold_equally_many_predictions_by_hand() -> None:
    found = calibration(np.array([0.8, 0.1, 0.6, 0.3]), np.array([1, 0, 0, 1]), bins=2)
    assert found.count.tolist() == [2, 2]
    assert found.probability == pytest.approx([0.2, 0.7])
    assert found.hit_rate == pytest.approx([0.5, 0.5])
    assert found.error == pytest.approx((0.3 * 2 + 0.2 * 2) / 4)


def test_honest_probabilities_are_calibrated_and_boasting_ones_are_not() -> None:
    random = np.random.default_rng(0)
    stated = random.random(20_000)
    hit = random.random(20_000) < stated
    assert calibration(stated, hit).error < 0.02
    assert calibration(np.sqrt(stated), hit).error > 0.1


def test_an_interval_covers_the_hit_rate_even_without_hits() -> None:
    found = calibration(np.full(50, 0.01), np.zeros(50), bins=1)
    # Wilson's upper bound without a hit is z² / (n + z²).
    assert (found.low[0], found.high[0]) == pytest.approx((0, 1.959964**2 / (50 + 1.959964**2)))


def test_fewer_predictions_than_bins_and_none() -> None:
    assert calibration(np.array([0.5]), np.array([1])).count.tolist() == [1]
    nothing = calibration(np.zeros(0), np.zeros(0))
    assert (nothing.error, len(nothing.count)) == (0, 0)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="outside 0 to 1"):
        calibration(np.array([wrong]), np.array([0]))


def test_every_probability_needs_an_outcome() -> None:
    with pytest.raises(ValueError, match="2 probabilities and 1 outcomes"):
        calibration(np.array([0.1, 0.2]), np.array([0]))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 12))
def test_bins_partition_the_predictions(pairs: list[tuple[float, bool]], bins: int) -> None:
    stated, hit = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    found = calibration(stated, hit, bins)
    assert found.count.sum() == len(pairs)
    assert found.count.max() - found.count.min() <= 1
    assert np.all(np.diff(found.probability) >= -1e-12)
    assert (found.hit_rate * found.count).sum() == pytest.approx(hit.sum())
    assert np.all((found.low <= found.hit_rate + 1e-12) & (found.hit_rate <= found.high + 1e-12))
    assert 0 <= found.error <= 1
