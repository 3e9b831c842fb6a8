from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.rankers.sampling import draw_places


@given(st.integers(1, 12), st.integers(1, 14), st.integers(0, 1000))
def test_a_target_is_there_once_and_no_place_counts_twice(total: int, negatives: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.integers(-1, total, 6)
    candidates = np.tile(np.arange(1, total + 1, dtype=np.int32), (6, 1))
    drawn = draw_places(candidates, targets, negatives, random)
    assert drawn.places.shape == (6, min(negatives, total) + 1)
    for row, target in enumerate(targets):
        counted = drawn.places[row][drawn.counts[row]].tolist()
        assert len(set(counted)) == len(counted) >= min(negatives, total)
        assert drawn.places[row][drawn.clicked[row]].tolist() == ([target] if target >= 0 else [])
        assert drawn.counts[row][drawn.clicked[row]].all()


def test_padding_does_not_count() -> None:
    candidates = np.array([[7, 8, 0, 0], [7, 8, 9, 0]], np.int32)
    drawn = draw_places(candidates, np.array([1, -1]), 4, np.random.default_rng(0))
    assert drawn.counts.sum(axis=1).tolist() == [2, 3]


def test_the_offset_is_how_much_likelier_a_click_is_among_what_was_drawn() -> None:
    """Odds of a click at a drawn place, over many draws, are the true odds times exp(offset)."""
    random, rows, total = np.random.default_rng(0), 30_000, 12
    candidates = np.tile(np.arange(1, total + 1, dtype=np.int32), (rows, 1))
    # Place k is clicked with a probability of (k + 1) / 100.
    probability = (np.arange(total) + 1) / 100
    place = (np.cumsum(probability) < random.random(rows)[:, None]).sum(axis=1)
    targets = np.where(place < total, place, -1)
    drawn = draw_places(candidates, targets, 6, random)
    for number in range(total):
        here = (drawn.places == number) & drawn.counts
        clicks = (here & drawn.clicked).sum()
        offset = drawn.offset[here]
        assert (offset == offset[0]).all()
        odds = clicks / (here.sum() - clicks)
        true = probability[number] / (1 - probability[number])
        assert np.log(odds) == pytest.approx(np.log(true) + offset[0], abs=0.15)
    # The best third, of what is drawn, is always there; of the other ten four are drawn.
    assert sorted({round(float(np.exp(value)), 5) for value in drawn.offset.ravel()}) == [1, 2.5]
