"""Items that a user's items speak for: the rows of a matrix of items × items, added up."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from python_backend.channels.base import Channel
from python_backend.channels.rows import Floats, Items, Rows, adder, best, empty_lists, own_items
from python_backend.stages.base import Arrays

ROWS = "item_rows"
"""The folder with `Rows` of one row per item, the first of which is padding's."""


class ItemNeighbours(Channel):
    """ItemKNN and EASE: an item's score is the sum of what each of the user's items says of it.

    The user's items are all of `seen`, not only those of the history. Items of which nothing is said, or
    whose sum is 0, are no candidates. Equal scores are ordered by item.
    """

    def __init__(self, rows: Rows, *, candidates: int) -> None:
        self._rows, self._candidates = rows, candidates

    @classmethod
    def open(cls, folder: Path, *, candidates: int, threads: int) -> Self:
        rows = Rows.open(folder / ROWS)
        adder()
        return cls(rows, candidates=candidates)

    def __call__(self, inputs: Arrays) -> tuple[Items, Floats]:
        seen, width = inputs["seen"], len(self._rows)
        items, scores = empty_lists(len(seen), self._candidates)
        for row in range(len(seen)):
            own = own_items(seen[row], width - 1)
            totals = self._rows.sum_of(own, np.ones(len(own), np.float32), width)
            totals[own] = totals[0] = 0
            found = np.flatnonzero(totals)
            found_items, found_scores = best(found, totals[found], self._candidates)
            items[row, : len(found_items)], scores[row, : len(found_items)] = found_items, found_scores
        return items, scores
