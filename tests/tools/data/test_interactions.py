"""Interactions, their grouping and their splits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.data.grouping import group_by_user
from tools.data.interactions import Interactions
from tools.data.split import leave_one_out

N_ITEMS = 9
HISTORIES = st.lists(st.lists(st.integers(1, N_ITEMS), unique=True), min_size=1, max_size=8)


def interactions_of(histories: list[list[int]]) -> Interactions:
    """Each history's items at the times 0, 1, 2, …"""
    flat = [item for history in histories for item in history]
    times = [time for history in histories for time in range(len(history))]
    return Interactions(
        offsets=np.cumsum([0, *map(len, histories)]).astype(np.int64),
        items=np.array(flat, np.int32),
        timestamps=np.array(times, np.int64),
        user_ids=np.arange(len(histories), dtype=np.int64),
        item_ids=np.arange(-1, N_ITEMS, dtype=np.int64),
    )


def histories_of(interactions: Interactions) -> list[list[int]]:
    return [interactions.user(row).tolist() for row in range(interactions.n_users)]


@given(HISTORIES, st.integers(0, 2**32 - 1))
def test_grouping_shuffled_events_gives_every_history_back(histories, seed):
    events = [
        (user, item, time) for user, history in enumerate(histories) for time, item in enumerate(history)
    ]
    shuffled = np.random.default_rng(seed).permutation(np.array(events, np.int64).reshape(-1, 3))
    offsets, items, timestamps = group_by_user(
        shuffled[:, 0].astype(np.int32),
        shuffled[:, 1].astype(np.int32),
        shuffled[:, 2] * 1_000_000_000,
        n_users=len(histories),
        seed=seed,
    )
    grouped = Interactions(
        offsets, items, timestamps, np.arange(len(histories)), np.arange(-1, N_ITEMS, dtype=np.int64)
    )
    assert histories_of(grouped) == histories
    np.testing.assert_array_equal(grouped.timestamps, interactions_of(histories).timestamps)


@given(HISTORIES)
def test_the_matrix_holds_exactly_the_pairs(histories):
    interactions = interactions_of(histories)
    matrix = interactions.to_csr()
    assert matrix.shape == (len(histories), N_ITEMS + 1)
    assert matrix.has_canonical_format
    assert [sorted(history) for history in histories] == [row.indices.tolist() for row in matrix]
    assert set(matrix.data.tolist()) <= {1.0}
    np.testing.assert_array_equal(np.asarray(matrix.sum(axis=0)).ravel(), interactions.popularity())
    assert histories_of(interactions) == histories  # the matrix shares no memory that it reorders


@given(HISTORIES, st.integers(1, 4))
def test_what_is_dropped_from_the_end_is_what_last_gives(histories, count):
    interactions = interactions_of(histories)
    assert histories_of(interactions.without_last(count)) == [history[:-count] for history in histories]
    last = [history[-count] if len(history) >= count else 0 for history in histories]
    assert interactions.last(count).tolist() == last
    assert interactions.last(count).dtype == np.int32


@given(HISTORIES)
def test_leave_one_out_holds_the_last_two_items_back_of_users_with_three(histories):
    split = leave_one_out(interactions_of(histories))
    for row, history in enumerate(histories):
        parts = (
            split.train.user(row).tolist(),
            int(split.validation[row]),
            split.train_and_validation.user(row).tolist(),
            int(split.test[row]),
        )
        if len(history) < 3:
            assert parts == (history, 0, history, 0)
        else:
            assert parts == (history[:-2], history[-2], history[:-1], history[-1])


def test_a_repeated_pair_counts_once_in_the_matrix():
    matrix = interactions_of([[1, 2, 1]]).to_csr()
    assert matrix.toarray().tolist() == [[0, 1, 1, 0, 0, 0, 0, 0, 0, 0]]


def test_a_users_items_are_a_view():
    interactions = interactions_of([[1, 2], [3]])
    assert np.shares_memory(interactions.user(1), interactions.items)


def test_dropping_a_negative_number_of_events_is_refused():
    interactions = interactions_of([[1, 2]])
    with pytest.raises(ValueError, match="count is -1; it must be at least 0"):
        interactions.without_last(-1)
    with pytest.raises(ValueError, match="count_from_end is 0; it must be at least 1"):
        interactions.last(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": np.array([1, 0], np.int32)}, "items must lie within 1 … 9"),
        ({"items": np.array([1, 10], np.int32)}, "items must lie within 1 … 9"),
        ({"items": np.array([1, 2], np.int64)}, r"items is int64 \[2\]; it must be int32 \[n\]"),
        ({"offsets": np.array([0, 1], np.int64)}, "offsets must rise to the number of events, 2"),
        ({"offsets": np.array([1, 2], np.int64)}, "1 users need 2 offsets that start at 0"),
        ({"timestamps": np.array([1], np.int64)}, "2 items but 1 timestamps"),
        ({"item_ids": np.arange(10)}, "item_ids must start with -1"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(change, message):
    arrays = vars(interactions_of([[1, 2]])) | change
    with pytest.raises(ValueError, match=message):
        Interactions(**arrays)
