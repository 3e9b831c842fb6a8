from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tools.data.interactions import Interactions
from tools.evaluation.removed_items import RemovedItems

Make = Callable[..., Interactions]


def test_removed_items_leave_no_event_and_everybody_keeps_the_row(interactions: Make) -> None:
    events = interactions([1, 2, 3, 4], [2], [], [4, 3], n_items=4)
    without = RemovedItems.of(events, 0.5, seed=1)
    gone = np.flatnonzero(without.met.sum(axis=0).A1).tolist()
    assert len(gone) == 2
    assert not np.isin(without.kept.items, gone).any()
    assert without.kept.n_users == 4
    assert without.kept.n_items == 4
    for row in range(4):
        kept, met = without.kept.user(row).tolist(), without.met[row].indices.tolist()
        assert kept == [item for item in events.user(row).tolist() if item not in gone]
        assert sorted([*kept, *met]) == sorted(events.user(row).tolist())


def test_recall_is_of_each_user_s_removed_items_and_chance_of_what_was_not_seen(interactions: Make) -> None:
    met = interactions([3, 4], [2], [3], [], n_items=10).to_csr()
    without = RemovedItems(interactions([1, 2], [1], [], [5], n_items=10), met)
    lists = np.array([[3, 9, 4], [9, 8, 2], [3, 0, 0], [0, 0, 0]], np.int32)
    found, chance = without.recall(lists, 2)
    # The third user has nothing left to be asked with, the fourth met no removed item.
    assert found.tolist() == [0.5, 0]
    assert chance == pytest.approx([2 / 8, 2 / 9])
    assert without.ratio(lists, 3).mean == pytest.approx((1 + 1) / (3 / 8 + 3 / 9))
