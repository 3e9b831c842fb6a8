"""Recommendations for users of whom little is known, and of items that nobody has met, against popularity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.evaluation.metrics import Interval, mean_interval, ndcg, paired_bootstrap, ranks, recall

EDGES = (0, 1, 5, 20, 50, 100)
"""Where buckets of history lengths begin: nobody, 1 to 4 events, 5 to 19, …"""

FEW = 5
"""Events below which a user is called new."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """How some of the targets are found.

    Attributes:
        name: what they have in common, in words.
        targets: how many there are; the figures below are None where there is none.
        recall, ndcg_10: of the lists in question, the mean with its 95 % interval over targets.
        popularity_recall, popularity_ndcg_10: of the most popular items, for the same targets.
        recall_gain, ndcg_gain: the lists' figure less popularity's, paired.
    """

    name: str
    targets: int
    recall: Interval | None = None
    ndcg_10: Interval | None = None
    popularity_recall: Interval | None = None
    popularity_ndcg_10: Interval | None = None
    recall_gain: Interval | None = None
    ndcg_gain: Interval | None = None

    @property
    def beats_popularity(self) -> bool:
        """Whether recall is above popularity's by more than chance explains."""
        return self.recall_gain is not None and self.recall_gain.low > 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"beats_popularity": self.beats_popularity}


def history_buckets(
    ranked: npt.NDArray[Any],
    popular: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    lengths: npt.NDArray[Any],
    *,
    k: int,
    edges: Sequence[int] = EDGES,
) -> list[Bucket]:
    """Recall@`k` and NDCG@10 by how long the histories are that the lists were made from, shortest first.

    `ranked` and `popular` are lists of item indices, best first, ``[U, ≥ k]`` (0 is padding), `targets` are
    ``[U]`` (0 for none) and `lengths` ``[U]``. Bucket i has the lengths from `edges`[i] to below
    `edges`[i + 1], the last all above. Another bucket, last of all, has every user with fewer than `FEW`
    events.
    """
    if list(edges) != sorted(set(edges)) or not edges or edges[0] < 0:
        raise ValueError(f"edges are {list(edges)}; they must increase from 0 or above")
    ends = [*edges[1:], None]
    found = []
    for begin, end in zip(edges, ends, strict=True):
        inside = (lengths >= begin) & (lengths < np.inf if end is None else lengths < end)
        found.append(_bucket(_span(begin, end), ranked, popular, targets, inside, k))
    found.append(_bucket(f"fewer than {FEW} events", ranked, popular, targets, lengths < FEW, k))
    return found


def unmet_items(
    ranked: npt.NDArray[Any],
    popular: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    popularity: npt.NDArray[Any],
    *,
    k: int,
) -> Bucket:
    """Recall@`k` and NDCG@10 of the targets that nobody had met: `popularity` ``[I + 1]`` of them is 0.

    The lists as in `history_buckets`. Popularity has no reason to show such an item, and finds one only where
    it runs out of others.
    """
    return _bucket(
        "items that nobody has met", ranked, popular, targets, (targets > 0) & (popularity[targets] == 0), k
    )


def cut_histories(history: npt.NDArray[Any], newest: int) -> npt.NDArray[Any]:
    """`history` ``[U, L]``, newest last and padded with 0 at the front, cut to its `newest` items."""
    if newest < 0:
        raise ValueError(f"newest is {newest}; it must be at least 0")
    cut = history.copy()
    cut[:, : max(history.shape[1] - newest, 0)] = 0
    return cut


def _bucket(
    name: str,
    ranked: npt.NDArray[Any],
    popular: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    inside: npt.NDArray[np.bool_],
    k: int,
) -> Bucket:
    for lists in (ranked, popular):
        if lists.shape[1] < k:
            raise ValueError(f"lists are {lists.shape[1]} long; recall at {k} needs {k} items")
    inside = inside & (targets > 0)
    if not inside.any():
        return Bucket(name, 0)
    ours, theirs = (ranks(lists[inside], targets[inside]) for lists in (ranked, popular))
    recalls, gains = (recall(ours, k), recall(theirs, k)), (ndcg(ours, 10), ndcg(theirs, 10))
    return Bucket(
        name,
        int(inside.sum()),
        recall=mean_interval(recalls[0]),
        ndcg_10=mean_interval(gains[0]),
        popularity_recall=mean_interval(recalls[1]),
        popularity_ndcg_10=mean_interval(gains[1]),
        recall_gain=paired_bootstrap(*recalls),
        ndcg_gain=paired_bootstrap(*gains),
    )


def _span(begin: int, end: int | None) -> str:
    if end is None:
        return f"{begin} events or more"
    if end - begin == 1:
        return "no event" if begin == 0 else f"{begin} event" + "s" * (begin > 1)
    return f"{begin} to {end - 1} events"
