"""The best K items of a whole catalogue, exactly as float32 scores rank them, from one scan of 8-bit codes.

1. A scan of the codes gives each block of items its greatest score and its sum of exponentials. All rows of
   a batch share one pass over the index, which is read as fast as memory gives it.
2. The K-th greatest of these maxima is a lower bound of the K-th best score; blocks below it hold nothing to
   find, and the scores of the others are computed again. (Two-level selection.)
3. A code's score is wrong by no more than ``|query| · code_error`` times its scale (Cauchy and Schwarz) and
   what rounding adds. Whatever could be among the best K by that bound is scored again in float32.

So the list is that of the float search by construction, however the vectors lie: only the number of items
that are scored again depends on them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from python_backend.item_index import BLOCK, CODE_LIMIT, NEVER, PADDING_SCORE, ItemIndex

ROUNDING = 1e-5
"""How wrong float32 sums may be, as a part of the greatest score there can be."""

FEWER = 8
"""Selecting the K-th greatest looks at groups of so many values first."""


class MissingLibrary(RuntimeError):
    """A library that a search needs is not installed; the message says which."""


@dataclass(frozen=True)
class Queries:
    """A batch as the scan reads it.

    Attributes:
        vectors: float32 ``[B, d]``.
        coded: int16 ``[B, d]``; times `steps` they are about `vectors`.
        steps: float32 ``[B]``.
        seen: int32 ``[B, E]``, items to leave out, ascending; 0 for none.
        errors: float32 ``[B]``: how far an item's coded score may be from its float score, at most, in units
            of the item's scale; and `rounding` beside it.
        rounding: float32 ``[B]``.
    """

    vectors: NDArray[np.float32]
    coded: NDArray[np.int16]
    steps: NDArray[np.float32]
    seen: NDArray[np.int32]
    errors: NDArray[np.float32]
    rounding: NDArray[np.float32]


class ExactSearch:
    """Searches `index` for `candidates` items per query, on `threads` threads.

    Raises MissingLibrary where numba is not installed.
    """

    def __init__(self, index: ItemIndex, *, candidates: int, threads: int = 1) -> None:
        try:  # only large catalogues need it, and importing it takes a quarter of a second
            from python_backend.scan_kernels import compile_kernels
        except ModuleNotFoundError as error:
            raise MissingLibrary(
                f"searching a large catalogue needs {error.name}, which is not installed: pip install numba"
            ) from error
        self.index = index
        self._candidates = candidates
        width = index.codes.shape[1]
        self._kernels = compile_kernels(width)
        # Queries are coded as finely as the sums of their products with codes fit into 32 bits.
        self._levels = min(2**15 - 1, (2**31 - 1) // (CODE_LIMIT * width))
        self._most_bias = float(
            np.abs(index.bias, where=index.bias > NEVER, out=np.zeros_like(index.bias)).max()
        )
        self._code_error = np.float32(index.code_error)
        self._block_scales = index.scales.reshape(-1, BLOCK).max(axis=1)
        self._greatest_scale = self._block_scales.max()
        blocks = len(index.codes) // BLOCK
        limits = np.linspace(0, blocks, min(threads, blocks) + 1).astype(int).tolist()
        self._ranges = list(pairwise(limits))
        self._threads = ThreadPoolExecutor(len(self._ranges), "search") if len(self._ranges) > 1 else None

    def __call__(
        self, queries: NDArray[np.float32], seen: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The best items for `queries` float32 ``[B, d]``, without those in `seen` int32 ``[B, E]``.

        Returns items int32 ``[B, K]``, best first and by index where scores are equal, and float32
        ``[B, K]``, the logarithms of their softmax probabilities among all items that are not seen. Places
        for which no item is left hold item 0 and PADDING_SCORE. A row's answer does not depend on the
        others'.
        """
        batch = self.prepare(queries, seen)
        maxima, sums = self.scan(batch)
        items = np.zeros((len(queries), self._candidates), np.int32)
        scores = np.full(items.shape, PADDING_SCORE, np.float32)
        for row in range(len(queries)):
            found, logits, coded_logits = self._may_be_best(batch, row, maxima[row])
            if len(found):
                normaliser = _log_sum_exp(maxima[row], sums[row], logits, coded_logits)
                best = np.lexsort((found, -logits))[: self._candidates]
                items[row, : len(best)] = found[best]
                scores[row, : len(best)] = logits[best] - normaliser
        return items, scores

    def prepare(self, queries: NDArray[np.float32], seen: NDArray[np.int32]) -> Queries:
        """The batch of `queries` and `seen`, as they are handed to a search."""
        queries = np.ascontiguousarray(queries, np.float32)
        steps = np.abs(queries).max(axis=1) / np.float32(self._levels)
        coded = np.rint(queries / np.where(steps > 0, steps, 1)[:, None]).astype(np.int16)
        # Most places of `seen` are not used, and sorting them is not free.
        seen = np.sort(np.ascontiguousarray(seen[:, seen.any(axis=0)], np.int32), axis=1)
        np.maximum(seen, 0, out=seen)  # nothing may be written before the beginning of an array
        length, lost = _lengths(queries), _lengths(queries - coded * steps[:, None])
        rounding = lost * self.index.longest + ROUNDING * (length * self.index.longest + self._most_bias)
        return Queries(queries, coded, steps, seen, length * self._code_error, rounding)

    def scan(self, batch: Queries) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Greatest score and sum of exponentials, relative to it, of each block of items.

        Both are float32 ``[B, blocks]``. Items that are seen have no part in them.
        """
        index = self.index
        maxima, sums = np.empty((2, len(batch.coded), len(index.codes) // BLOCK), np.float32)

        def scan_part(limits: tuple[int, int]) -> None:
            before = (batch.seen < limits[0] * BLOCK).sum(axis=1)
            self._kernels.scan(
                index.codes, index.scales, index.bias, batch.coded, batch.steps, batch.seen,
                before, *limits, maxima, sums,
            )  # fmt: skip

        if self._threads is None:
            scan_part(self._ranges[0])
        else:
            list(self._threads.map(scan_part, self._ranges))
        return maxima, sums

    def _may_be_best(
        self, batch: Queries, row: int, maxima: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Every item that may be among the best K: its index, its float score and its codes' score."""
        index, error, twice = self.index, batch.errors[row], 2 * batch.rounding[row]
        margins = error * self._block_scales
        # No item of the best K is below this, nor in a block that is.
        least = _kth_greatest(maxima - margins, self._candidates) - twice
        blocks = np.flatnonzero((maxima + margins >= least) & (maxima > NEVER / 2))
        found = np.empty(len(blocks) * BLOCK + 1, np.int64)
        coded_scores = np.empty(len(found), np.float32)
        least_coded = np.float32(max(least - error * self._greatest_scale, NEVER / 2))
        count = self._kernels.collect(
            index.codes, index.scales, index.bias, batch.coded[row], batch.steps[row], batch.seen[row],
            blocks, least_coded, found, coded_scores,
        )  # fmt: skip
        found, coded_scores = found[:count], coded_scores[:count]
        margins = error * index.scales[found]
        least = _kth_greatest(coded_scores - margins, self._candidates) - twice
        near = coded_scores + margins >= least
        found, coded_scores = found[near], coded_scores[near]
        # Not a matrix product: that would add up the same vector differently at another place.
        scores = np.einsum("nd,d->n", index.vectors[found], batch.vectors[row]) + index.bias[found]
        return found, scores, coded_scores


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("bd,bd->b", vectors, vectors))
    return lengths


def _kth_greatest(values: NDArray[np.float32], k: int) -> np.float32:
    """The `k`-th greatest of `values`; NEVER where there are fewer."""
    if len(values) < k:
        return NEVER
    rest = len(values) // FEWER
    if rest > 2 * k:
        # The k-th greatest of the maxima of groups: k values are no smaller, and not many more.
        groups = values[: rest * FEWER].reshape(FEWER, rest).max(axis=0)
        values = values[values >= np.partition(groups, rest - k)[rest - k]]
    greatest: np.float32 = np.partition(values, len(values) - k)[len(values) - k]
    return greatest


def _log_sum_exp(
    maxima: NDArray[np.float32],
    sums: NDArray[np.float32],
    scores: NDArray[np.float32],
    coded_scores: NDArray[np.float32],
) -> np.float32:
    """The logarithm of the sum of all exponentials, from the scan and the best items' float `scores`.

    Codes' scores are wrong in both directions: in a sum over many items that cancels out, and the few that
    the sum rests on are corrected. What is left is below 0.001 for trained vectors, and one constant for all
    items of a row.
    """
    greatest = max(maxima.max(), scores.max())
    total = np.dot(sums, np.exp(maxima - greatest))
    correction = np.exp(scores - greatest).sum() - np.exp(coded_scores - greatest).sum()
    return np.float32(greatest + np.log(max(total + correction, np.finfo(np.float32).tiny)))
