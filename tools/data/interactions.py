"""Who did what, when: every user's items in time order, as one compact matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Interactions:
    """Events grouped by user, oldest first (a compressed sparse row layout).

    The events of the user in row ``u`` are ``items[offsets[u]:offsets[u + 1]]``.

    Attributes:
        offsets: int64 ``[U + 1]``, where each user's events begin and end.
        items: int32 ``[n_events]``, item indices 1 … I (0 is padding and never occurs here).
        timestamps: int64 ``[n_events]``, unix seconds, ascending within a user.
        user_ids: int64 ``[U]``, each user's wire id.
        item_ids: int64 ``[I + 1]``, each item's wire id; ``item_ids[0]`` is -1.

    Raises ValueError where the arrays do not fit together.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    timestamps: NDArray[np.int64]
    user_ids: NDArray[np.int64]
    item_ids: NDArray[np.int64]

    def __post_init__(self) -> None:
        expected = {"offsets": 8, "items": 4, "timestamps": 8, "user_ids": 8, "item_ids": 8}
        for name, size in expected.items():
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype.kind != "i" or array.dtype.itemsize != size:
                raise ValueError(f"{name} is {array.dtype} {list(array.shape)}; it must be int{8 * size} [n]")
        if len(self.offsets) != len(self.user_ids) + 1 or self.offsets[0] != 0:
            raise ValueError(
                f"{len(self.user_ids)} users need {len(self.user_ids) + 1} offsets that start at 0"
            )
        if np.any(np.diff(self.offsets) < 0) or self.offsets[-1] != len(self.items):
            raise ValueError(f"offsets must rise to the number of events, {len(self.items)}")
        if len(self.timestamps) != len(self.items):
            raise ValueError(f"{len(self.items)} items but {len(self.timestamps)} timestamps")
        if len(self.item_ids) == 0 or self.item_ids[0] != -1:
            raise ValueError("item_ids must start with -1, the id of padding")
        if len(self.items) and not 1 <= self.items.min() <= self.items.max() <= self.n_items:
            raise ValueError(f"items must lie within 1 … {self.n_items}")

    @property
    def n_users(self) -> int:
        """How many users there are, including those without events."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """How many items there are, including those without events; padding is not counted."""
        return len(self.item_ids) - 1

    @property
    def n_events(self) -> int:
        """How many events there are."""
        return len(self.items)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """How many events each user has, int64 ``[U]``."""
        return np.diff(self.offsets)

    def user(self, row: int) -> NDArray[np.int32]:
        """The items of the user in `row`, oldest first: a view, int32 ``[lengths[row]]``."""
        return self.items[self.offsets[row] : self.offsets[row + 1]]

    def without_last(self, count: int | NDArray[np.int64] = 1) -> Interactions:
        """The same users without each one's last `count` events, one number for all or int64 ``[U]``.

        A user with at most that many events becomes empty but keeps the row.
        """
        if np.any(np.less(count, 0)):
            raise ValueError(f"count is {np.min(count)}; it must be at least 0")
        lengths = np.maximum(self.lengths - count, 0)
        keep = np.repeat(self.offsets[:-1] + lengths, self.lengths) > np.arange(self.n_events)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return replace(self, offsets=offsets, items=self.items[keep], timestamps=self.timestamps[keep])

    def last(self, count_from_end: int = 1) -> NDArray[np.int32]:
        """Each user's item at `count_from_end` (1 is the newest), int32 ``[U]``; 0 where there is none."""
        if count_from_end < 1:
            raise ValueError(f"count_from_end is {count_from_end}; it must be at least 1")
        found = self.lengths >= count_from_end
        items = np.zeros(self.n_users, dtype=np.int32)
        items[found] = self.items[self.offsets[1:][found] - count_from_end]
        return items

    def popularity(self) -> NDArray[np.int64]:
        """How many events each item has, int64 ``[I + 1]``; 0 for padding."""
        return np.bincount(self.items, minlength=self.n_items + 1).astype(np.int64, copy=False)

    def to_csr(self) -> csr_matrix:
        """Which user met which item: a binary float32 matrix ``[U, I + 1]``, columns sorted."""
        from scipy.sparse import csr_matrix

        shape = (self.n_users, self.n_items + 1)
        ones = np.ones(self.n_events, dtype=np.float32)
        # Copies: summing duplicates and sorting columns would otherwise reorder this object's own arrays.
        matrix = csr_matrix((ones, self.items.copy(), self.offsets.copy()), shape=shape)
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        return matrix
