from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.data.interactions import Interactions
from tools.evaluation import baselines
from tools.evaluation.baselines import EASE, Baseline, CatalogueTooLargeError, ItemKNN, Popularity, top_k

Array = npt.NDArray[Any]
Make = Callable[..., Interactions]
METHODS: tuple[type[Baseline], ...] = (Popularity, ItemKNN, EASE)


@pytest.fixture
def history(interactions: Make) -> Interactions:
    random = np.random.default_rng(0)
    users = [list(random.choice(40, random.integers(0, 12), replace=False) + 1) for _ in range(30)]
    return interactions(*users, n_items=40)


@pytest.mark.parametrize("method", METHODS)
def test_every_unseen_item_is_recommended_once_and_no_seen_one(
    method: type[Baseline], history: Interactions
) -> None:
    ranked = method().fit(history).recommend(history, 40)
    assert ranked.dtype == np.int32
    assert ranked.shape == (30, 40)
    for row, items in enumerate(ranked):
        seen = set(history.user(row).tolist())
        shown = items[items > 0].tolist()
        assert sorted(shown) == sorted(set(range(1, 41)) - seen)
        assert not items[len(shown) :].any(), "padding comes last"


@pytest.mark.parametrize("method", METHODS)
def test_a_shorter_list_is_the_start_of_a_longer_one(method: type[Baseline], history: Interactions) -> None:
    fitted = method().fit(history)
    assert np.array_equal(fitted.recommend(history, 5), fitted.recommend(history, 25)[:, :5])


@pytest.mark.parametrize("method", METHODS)
def test_batches_of_users_change_nothing(
    method: type[Baseline], history: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = method().fit(history).recommend(history, 10)
    monkeypatch.setattr(baselines, "_CELLS_AT_ONCE", 3 * 41)
    assert np.array_equal(method().fit(history).recommend(history, 10), whole)


@pytest.mark.parametrize("method", METHODS)
def test_more_places_than_items_are_padded(method: type[Baseline], interactions: Make) -> None:
    history = interactions([1, 2], [1], n_items=3)
    ranked = method().fit(history).recommend(history, 6)
    assert sorted(ranked[0].tolist()) == [0, 0, 0, 0, 0, 3]
    assert ranked[0, 0] == 3


@pytest.mark.parametrize("method", METHODS)
def test_equal_scores_are_ordered_by_the_seed_and_not_by_item(
    method: type[Baseline], interactions: Make
) -> None:
    history = interactions([], [], n_items=50)
    first, again, other = (method(seed=seed).fit(history).recommend(history, 50)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert abs(np.corrcoef(first, np.arange(50))[0, 1]) < 0.5


def test_popularity_puts_what_most_users_met_first(interactions: Make) -> None:
    history = interactions([3, 1], [3, 2], [3, 2], [4], n_items=4)
    assert Popularity().fit(history).recommend(history, 3)[3].tolist() == [3, 2, 1]


def test_item_knn_sums_the_cosines_of_each_candidates_neighbours(history: Interactions) -> None:
    seen = history.to_csr().toarray().astype(np.float64)
    length = np.maximum(np.linalg.norm(seen, axis=0), 1)
    cosine = seen.T @ seen / length / length[:, None]
    np.fill_diagonal(cosine, 0)
    # With fewer neighbours than items, equal cosines at the border are a matter of chance: keep them all.
    expected = seen @ cosine
    ranked = ItemKNN(neighbours=41).fit(history).recommend(history, 40)
    assert_ordered_by(expected, ranked)


def test_item_knn_keeps_only_the_nearest_neighbours_of_a_candidate(interactions: Make) -> None:
    # Item 1 is nearest to item 2 (twice together), then to item 3 (once).
    history = interactions([1, 2], [1, 2, 3], [3, 4], [3], n_items=4)
    only_nearest = ItemKNN(neighbours=1).fit(history)
    scores = only_nearest._score(history.to_csr()[[3]])[0]
    assert scores[1] == 0
    assert scores[4] == pytest.approx(1 / np.sqrt(3))


def test_ease_is_the_closed_form(history: Interactions) -> None:
    seen = history.to_csr().toarray().astype(np.float64)[:, 1:]
    inverse = np.linalg.inv(seen.T @ seen + 5.0 * np.eye(40))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    expected = np.hstack([np.zeros((30, 1)), seen @ weights])
    assert_ordered_by(expected, EASE(regularisation=5.0).fit(history).recommend(history, 40))


def test_ease_refuses_a_catalogue_that_is_too_large(interactions: Make) -> None:
    with pytest.raises(CatalogueTooLargeError, match="3 items are more than the 2"):
        EASE(max_items=2).fit(interactions([1], n_items=3))


def test_a_baseline_that_cannot_be_computed_is_left_out_with_its_reason(
    interactions: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "EASE", lambda seed: EASE(max_items=2, seed=seed))
    found = baselines.baseline_lists(interactions([1], n_items=3), k=2)
    assert list(found.lists) == ["popularity", "ItemKNN"]
    assert "3 items" in found.skipped["EASE"]


@settings(max_examples=50)
@given(st.data())
def test_top_k_is_a_full_sort_cut_off(data: st.DataObject) -> None:
    rows, columns, k = (
        data.draw(st.integers(1, 4)),
        data.draw(st.integers(1, 9)),
        data.draw(st.integers(1, 10)),
    )
    value = st.sampled_from([-np.inf, -2.5, -1e-30, -0.0, 0.0, 1e-30, 1.0, 2.5])
    cells = data.draw(st.lists(value, min_size=rows * columns, max_size=rows * columns))
    scores = np.array(cells, dtype=np.float32).reshape(rows, columns)
    tie_key = np.array(data.draw(st.permutations(range(columns))))
    expected = [sorted(range(columns), key=lambda c: (-row[c], tie_key[c]))[:k] for row in scores]
    assert top_k(scores, k, tie_key).tolist() == expected


def assert_ordered_by(scores: Array, ranked: Array) -> None:
    """Each row of `ranked` goes down in `scores`, up to rounding."""
    for row, items in zip(scores, ranked, strict=True):
        shown = row[items[items > 0]]
        assert np.all(np.diff(shown) <= 1e-5)
