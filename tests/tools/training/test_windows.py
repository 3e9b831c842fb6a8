from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import interactions_of

from tools.data.interactions import Interactions
from tools.training.windows import cut_windows, histories_before, last_histories, shuffle_ties

N_ITEMS = 70


@st.composite
def histories(draw: st.DrawFn) -> Interactions:
    """Any users, some without events, whose times rise with ties; no two events have the same item."""
    lengths = draw(st.lists(st.integers(0, 14), max_size=5))
    items = draw(st.permutations(range(1, N_ITEMS + 1)))[: sum(lengths)]
    users, times, begin = [], [], 0
    for length in lengths:
        users.append(items[begin : begin + length])
        times += sorted(draw(st.lists(st.integers(0, 3), min_size=length, max_size=length)))
        begin += length
    return interactions_of(*users, n_items=N_ITEMS, timestamps=times)


seeds = st.none() | st.integers(0, 100)
widths = st.integers(1, 6)


@given(histories(), widths, seeds)
def test_every_event_is_a_target_exactly_once(events: Interactions, width: int, seed: int | None) -> None:
    random = None if seed is None else np.random.default_rng(seed)
    windows = cut_windows(events, width, random)
    targets = Counter()
    for user, row in zip(windows.users, windows.targets, strict=True):
        targets.update((int(user), int(item)) for item in row if item)
    assert targets == Counter(
        (user, int(item)) for user in range(events.n_users) for item in events.user(user)
    )


@given(histories(), widths, seeds)
def test_a_target_stands_after_what_its_user_did_before_it(
    events: Interactions, width: int, seed: int | None
) -> None:
    random = None if seed is None else np.random.default_rng(seed)
    windows = cut_windows(events, width, random)
    assert windows.histories.shape == windows.targets.shape == (len(windows.users), width)
    for user, history, targets in zip(windows.users, windows.histories, windows.targets, strict=True):
        own = events.user(int(user)).tolist()
        for position in np.flatnonzero(targets):
            before = own[: own.index(targets[position])]
            context = [item for item in history[: position + 1].tolist() if item]
            assert context == before[len(before) - len(context) :]
            # The newest is always there, and nothing is left out of a row that has room for it.
            assert len(context) == min(len(before), position + 1)


@given(histories(), widths, seeds)
def test_padding_is_at_the_front_only(events: Interactions, width: int, seed: int | None) -> None:
    random = None if seed is None else np.random.default_rng(seed)
    known = cut_windows(events, width, random).histories != 0
    assert (np.diff(known.astype(int), axis=1) >= 0).all()


@given(histories(), widths)
def test_a_user_who_fits_into_one_window_is_never_cut(events: Interactions, width: int) -> None:
    windows = cut_windows(events, width, np.random.default_rng(0))
    rows = Counter(windows.users.tolist())
    for user, length in enumerate(events.lengths):
        assert rows[user] <= -(-length // width) + 1
        if length <= width:
            assert rows[user] == min(length, 1)


def test_a_long_user_is_cut_and_the_history_reaches_back_over_the_cut() -> None:
    windows = cut_windows(interactions_of([1, 2, 3, 4, 5], n_items=9), 3)
    assert windows.histories.tolist() == [[0, 1, 2], [2, 3, 4]]
    assert windows.targets.tolist() == [[1, 2, 3], [0, 4, 5]]


def test_the_first_cut_falls_anywhere() -> None:
    events = interactions_of(list(range(1, 21)), n_items=20)
    random = np.random.default_rng(0)
    firsts = {int((cut_windows(events, 5, random).targets[0] > 0).sum()) for _ in range(100)}
    assert firsts == {1, 2, 3, 4, 5}


@given(histories(), st.integers(0, 100))
def test_shuffling_stays_inside_ties(events: Interactions, seed: int) -> None:
    shuffled = shuffle_ties(events, np.random.default_rng(seed))
    assert np.array_equal(shuffled.offsets, events.offsets)
    assert np.array_equal(shuffled.timestamps, events.timestamps)

    def moments(of: Interactions) -> Counter[tuple[int, int, int]]:
        users = np.repeat(np.arange(of.n_users), of.lengths)
        return Counter(zip(users.tolist(), of.timestamps.tolist(), of.items.tolist(), strict=True))

    assert moments(shuffled) == moments(events)


def test_every_order_of_a_tie_occurs_about_as_often() -> None:
    events = interactions_of([9, 1, 2, 3, 8], n_items=9, timestamps=[0, 5, 5, 5, 7])
    random = np.random.default_rng(0)
    orders = Counter(tuple(shuffle_ties(events, random).items.tolist()) for _ in range(600))
    assert len(orders) == 6
    assert all(order[0] == 9 and order[-1] == 8 for order in orders)
    assert min(orders.values()) > 60


def test_the_order_of_the_data_set_itself_does_not_change() -> None:
    events = interactions_of([1, 2, 3, 4], n_items=4, timestamps=[0, 0, 0, 0])
    shuffle_ties(events, np.random.default_rng(1))
    assert events.items.tolist() == [1, 2, 3, 4]


@given(histories(), st.integers(1, 16))
def test_a_history_is_the_newest_items_right_aligned(events: Interactions, width: int) -> None:
    found = last_histories(events, width)
    assert found.dtype == np.int32
    for user, row in enumerate(found.tolist()):
        newest = events.user(user).tolist()[-width:]
        assert row == [0] * (width - len(newest)) + newest


@given(histories(), st.integers(1, 6))
def test_a_history_before_an_event_ends_there(events: Interactions, width: int) -> None:
    users = np.repeat(np.arange(events.n_users), events.lengths)
    found = histories_before(events, users, np.arange(events.n_events), width)
    for event, (user, row) in enumerate(zip(users, found.tolist(), strict=True)):
        before = events.items[events.offsets[user] : event].tolist()[-width:]
        assert row == [0] * (width - len(before)) + before


@pytest.mark.parametrize("users", [[], [[], []]])
def test_without_events_there_are_no_windows(users: list[list[int]]) -> None:
    events = interactions_of(*users, n_items=3)
    assert cut_windows(events, 4).histories.shape == (0, 4)
    assert not last_histories(events, 4).any()
