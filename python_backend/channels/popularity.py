"""What most people turn to: one list for everybody, without what each has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from python_backend.channels.base import Channel
from python_backend.channels.rows import Floats, Items, empty_lists, mapped, own_items
from python_backend.stages.base import Arrays

ORDER, SCORES = "order.npy", "scores.npy"
"""The files with the items, int32 ``[n]``, best first, and their scores, float32 ``[n]``."""


class Popularity(Channel):
    """The best unseen items of a fixed list; a score is the logarithm of the item's share of all events."""

    def __init__(self, order: Items, scores: Floats, *, candidates: int) -> None:
        """Raises ValueError where `order` and `scores` are not of one length."""
        if order.ndim != 1 or order.shape != scores.shape:
            raise ValueError(f"order is {order.shape} and scores {scores.shape}; both must be [n]")
        self._order, self._scores, self._candidates = order, scores, candidates
        self._greatest = int(order.max(initial=0))

    @classmethod
    def open(cls, folder: Path, *, candidates: int, threads: int) -> Self:
        return cls(mapped(folder / ORDER), mapped(folder / SCORES), candidates=candidates)

    def __call__(self, inputs: Arrays) -> tuple[Items, Floats]:
        seen = inputs["seen"]
        items, scores = empty_lists(len(seen), self._candidates)
        for row in range(len(seen)):
            own = own_items(seen[row], self._greatest)
            hidden = np.zeros(self._greatest + 1, np.bool_)
            hidden[own] = True
            # No more of the list can be needed than what is asked for and what is hidden.
            beginning = self._order[: self._candidates + len(own)]
            places = np.flatnonzero(~hidden[beginning])[: self._candidates]
            items[row, : len(places)], scores[row, : len(places)] = beginning[places], self._scores[places]
        return items, scores
