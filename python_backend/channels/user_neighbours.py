"""What users with the same items met besides: their votes, each as heavy as they are alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

import numpy as np

from python_backend.channels.base import Channel
from python_backend.channels.rows import Floats, Items, Rows, adder, best, empty_lists, own_items
from python_backend.stages.base import Arrays

ITEMS_OF_USERS, USERS_OF_ITEMS = "items_of_users", "users_of_items"
"""The folders with `Rows`: one row per stored user, and one per item, the first of which is padding's."""
SETTINGS = "neighbours.json"


class UserNeighbours(Channel):
    """The `neighbours` stored users nearest to a user by the cosine of their items vote for theirs.

    A vote counts as much as the cosine to the power of `power` (case amplification, Breese et al. 1998). Who
    has met nothing but what the user has met, as the user's own stored row, has no vote to give and is no
    neighbour. The user's items are all of `seen`. Items without a vote are no candidates; equal scores are
    ordered by item.
    """

    def __init__(
        self, items_of_users: Rows, users_of_items: Rows, *, neighbours: int, power: float, candidates: int
    ) -> None:
        self._items_of_users, self._users_of_items = items_of_users, users_of_items
        self._lengths = np.diff(items_of_users.offsets).astype(np.float32)
        self._neighbours, self._power, self._candidates = neighbours, np.float32(power), candidates

    @classmethod
    def open(cls, folder: Path, *, candidates: int, threads: int) -> Self:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        items_of_users, users_of_items = (
            Rows.open(folder / ITEMS_OF_USERS),
            Rows.open(folder / USERS_OF_ITEMS),
        )
        adder()
        return cls(items_of_users, users_of_items, **settings, candidates=candidates)

    def __call__(self, inputs: Arrays) -> tuple[Items, Floats]:
        seen, width = inputs["seen"], len(self._users_of_items)
        items, scores = empty_lists(len(seen), self._candidates)
        for row in range(len(seen)):
            own = own_items(seen[row], width - 1)
            users, cosines = self._nearest(own)
            totals = self._items_of_users.sum_of(users, cosines**self._power, width)
            totals[own] = 0
            found = np.flatnonzero(totals)
            found_items, found_scores = best(found, totals[found], self._candidates)
            items[row, : len(found_items)], scores[row, : len(found_items)] = found_items, found_scores
        return items, scores

    def _nearest(self, own: Items) -> tuple[Items, Floats]:
        """The rows of the nearest stored users who have something to add, and their cosines."""
        common = self._users_of_items.sum_of(own, np.ones(len(own), np.float32), len(self._lengths))
        users = np.flatnonzero((common > 0) & (common < self._lengths))
        cosines = common[users] / np.sqrt(self._lengths[users] * np.float32(len(own)))
        return best(users, cosines, self._neighbours)
