from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.training.lift import exposure_lift

RESULTS = 3


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Candidates with padding behind, their logits, and how many items there are."""
    n_items, users, places = draw(st.integers(6, 12)), draw(st.integers(1, 12)), draw(st.integers(3, 6))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    candidates = np.stack([random.permutation(n_items)[:places] + 1 for _ in range(users)]).astype(np.int32)
    logits = random.normal(size=candidates.shape).astype(np.float32)
    short = np.arange(places) >= random.integers(1, places + 1, (users, 1))
    candidates[short], logits[short] = 0, -1e4
    return candidates, logits, n_items


def shown(candidates: np.ndarray, logits: np.ndarray, item: int, lift: float) -> int:
    """How many pages `item` is on if it alone is lifted so far."""
    lifted = np.where(candidates == item, logits + lift, logits)
    lifted = np.where(candidates == 0, -np.inf, lifted)
    own = np.where(candidates == item, lifted, -np.inf).max(axis=1, keepdims=True)
    above = ((lifted > own) & (candidates != item)).sum(axis=1)
    return int(((above < RESULTS) & np.isfinite(own[:, 0])).sum())


@given(samples(), st.floats(0, 1))
def test_a_lift_is_what_an_item_lacks_to_be_shown_to_enough_users(
    sample: tuple[np.ndarray, np.ndarray, int], exposure: float
) -> None:
    candidates, logits, n_items = sample
    lift = exposure_lift(candidates, logits, n_items=n_items, results=RESULTS, exposure=exposure)
    wanted = max(1, round(exposure * len(candidates) * RESULTS / n_items))
    assert lift.shape == (n_items + 1,)
    assert lift.dtype == np.float32
    assert (lift >= 0).all()
    assert lift[0] == 0
    for item in np.flatnonzero(lift):
        asked = int((candidates == item).any(axis=1).sum())
        assert shown(candidates, logits, item, lift[item] + 1e-4) >= min(wanted, asked)
        assert shown(candidates, logits, item, lift[item] - 1e-4) < min(wanted, asked)


@given(samples(), st.floats(0, 1))
def test_what_is_shown_often_enough_or_is_nobodys_candidate_is_not_lifted(
    sample: tuple[np.ndarray, np.ndarray, int], exposure: float
) -> None:
    candidates, logits, n_items = sample
    lift = exposure_lift(candidates, logits, n_items=n_items, results=RESULTS, exposure=exposure)
    wanted = max(1, round(exposure * len(candidates) * RESULTS / n_items))
    for item in range(1, n_items + 1):
        if item not in candidates or shown(candidates, logits, item, 0) >= wanted:
            assert lift[item] == 0


@given(samples(), st.floats(0, 1))
def test_lifts_take_no_more_than_their_share_of_all_places(
    sample: tuple[np.ndarray, np.ndarray, int], exposure: float
) -> None:
    candidates, logits, n_items = sample
    places = len(candidates) * RESULTS
    lift = exposure_lift(candidates, logits, n_items=n_items, results=RESULTS, exposure=exposure)
    assert np.count_nonzero(lift) * max(1, round(exposure * places / n_items)) <= exposure * places


def test_where_not_all_can_be_lifted_those_are_that_need_least() -> None:
    """One user with a page of three: a third of the places is one, for the best that is left out."""
    candidates = np.array([[1, 2, 3, 4, 5, 6]], np.int32)
    logits = np.array([[6, 5, 4, 3, 2, 1]], np.float32)
    lift = exposure_lift(candidates, logits, n_items=100, results=3, exposure=0.34)
    assert np.flatnonzero(lift).tolist() == [4]
    assert lift[4] == pytest.approx(1)


def test_no_exposure_lifts_nobody() -> None:
    candidates = np.array([[1, 2, 3, 4]], np.int32)
    logits = np.array([[4, 3, 2, 1]], np.float32)
    assert not exposure_lift(candidates, logits, n_items=4, results=1, exposure=0.0).any()
