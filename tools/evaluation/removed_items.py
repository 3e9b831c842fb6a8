"""What a channel finds of items that it has not learned from: some are removed, with all their events."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tools.data.interactions import Interactions
from tools.evaluation.metrics import Interval, paired_ratio


@dataclass(frozen=True)
class RemovedItems:
    """Events without some of the items, and who had met those.

    Attributes:
        kept: the events of the other items; the catalogue is the same.
        met: binary ``[U, I + 1]``, which user had met which removed item.
    """

    kept: Interactions
    met: csr_matrix

    @classmethod
    def of(cls, interactions: Interactions, share: float, seed: int) -> RemovedItems:
        """Remove a random `share` of the catalogue's items, at least one."""
        n_items = interactions.n_items
        count = max(1, round(share * n_items))
        removed = np.zeros(n_items + 1, np.bool_)
        removed[np.random.default_rng(seed).choice(n_items, count, replace=False) + 1] = True
        gone = removed[interactions.items]
        return cls(_only(interactions, ~gone), _only(interactions, gone).to_csr())

    def recall(self, lists: NDArray[np.int32], k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The share of each user's removed items among the first `k` of `lists` ``[U, K]``; and by chance.

        Both have one number per user who has met a removed item and another one. By chance is for `k` of all
        items that are not in the user's kept history.
        """
        found, chance = [], []
        for user in np.flatnonzero((np.diff(self.met.indptr) > 0) & (self.kept.lengths > 0)).tolist():
            targets = self.met.indices[self.met.indptr[user] : self.met.indptr[user + 1]]
            unseen = self.kept.n_items - len(np.unique(self.kept.user(user)))
            found.append(np.isin(targets, lists[user, :k]).mean())
            chance.append(min(k, unseen) / unseen)
        return np.array(found, np.float64), np.array(chance, np.float64)

    def ratio(self, lists: NDArray[np.int32], k: int) -> Interval:
        """`recall` ÷ what chance would find, with its paired bootstrap interval over users."""
        return paired_ratio(*self.recall(lists, k))


def _only(interactions: Interactions, chosen: NDArray[np.bool_]) -> Interactions:
    """The chosen events; every user keeps the row."""
    before = np.concatenate([[0], np.cumsum(chosen)]).astype(np.int64)
    return replace(
        interactions,
        offsets=before[interactions.offsets],
        items=interactions.items[chosen],
        timestamps=interactions.timestamps[chosen],
    )
