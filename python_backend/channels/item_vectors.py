"""Items whose vectors point where those of the history do, on average."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from python_backend.channels.base import Channel
from python_backend.channels.rows import Floats, Items, best, empty_lists, mapped, own_items
from python_backend.exact_search import ExactSearch
from python_backend.item_index import INDEX, ItemIndex
from python_backend.stages.base import Arrays

VECTORS = "vectors.npy"
"""The file with the items' vectors, float32 ``[items + 1, d]``, of length 1; all 0 where an item has none.
A large catalogue has an index instead, in the folder INDEX."""


class ItemVectors(Channel):
    """The items with the greatest cosine to the mean of the history's vectors; the score is the cosine.

    Items without a vector are never found and say nothing of the user. Without any that does, there are no
    candidates. Equal scores are ordered by item.
    """

    def __init__(self, vectors: Floats, *, candidates: int, search: ExactSearch | None = None) -> None:
        """`search`, where there is one, finds the items instead of scoring each. It never finds those
        without a vector.
        """
        self._vectors, self._search, self._candidates = vectors, search, candidates
        self._has_vector = np.empty(0, np.bool_) if search else vectors.any(axis=1)

    @classmethod
    def open(cls, folder: Path, *, candidates: int, threads: int) -> Self:
        if (folder / INDEX).is_dir():
            index = ItemIndex.open(folder / INDEX)
            search = ExactSearch(index, candidates=candidates, threads=threads)
            return cls(index.vectors, candidates=candidates, search=search)
        return cls(mapped(folder / VECTORS), candidates=candidates)

    def __call__(self, inputs: Arrays) -> tuple[Items, Floats]:
        history, seen = inputs["history"], inputs["seen"]
        items, scores = empty_lists(len(history), self._candidates)
        totals = self._vectors[history].sum(axis=1)  # padding's vector is 0
        lengths = np.sqrt(np.einsum("bd,bd->b", totals, totals))
        asked = np.flatnonzero(lengths > 0)
        queries = totals[asked] / lengths[asked, None]
        if self._search is not None and len(asked):
            items[asked], _ = self._search(queries, seen[asked])
        for row, query in zip(asked.tolist(), queries, strict=True):
            if self._search is not None:
                found = items[row][items[row] > 0]
                # Not a matrix product: that would add up the same vector differently at another place.
                scores[row, : len(found)] = np.einsum("nd,d->n", self._vectors[found], query)
                continue
            left = self._has_vector.copy()
            left[own_items(seen[row], len(left) - 1)] = False
            # The same for any number of threads, and equal for items with equal vectors: see above.
            cosines = np.einsum("nd,d->n", self._vectors, query)
            found = np.flatnonzero(left)
            found_items, found_scores = best(found, cosines[found], self._candidates)
            items[row, : len(found_items)], scores[row, : len(found_items)] = found_items, found_scores
        return items, scores
