"""The best K items of a whole catalogue, exactly as float32 scores rank them, from one scan of 8-bit codes.

1. A scan of the codes gives each block of items its greatest score and its sum of exponentials. All rows of
   a batch share one pass over the index, which is read as fast as memory gives it.
2. The K-th greatest of these maxima is a lower bound of the K-th best score; blocks below it hold nothing to
   find, and the scores of the others are computed again. (Two-level selection.)
3. A code's score is wrong by no more than ``|query| · code_error`` times its scale (Cauchy and Schwarz) and
   what rounding adds. Whatever could be among the best K by that bound is scored again in float32.

So the list is that of the float search by construction, however the vectors lie: only the number of items
that are scored again depends on them. The loops are in `scan_kernels.py`, one for each step that reads the
index: of 100,000 items what follows the scan was most of the time, and is compiled, too.
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


class MissingLibrary(RuntimeError):
    """A library that a search needs is not installed; the message says which."""


@dataclass(frozen=True)
class Queries:
    """A batch as the scan reads it.

    Attributes:
        vectors: float32 ``[B, d]``.
        coded: int16 ``[B, d]``; times `steps` they are about `vectors`.
        steps: float32 ``[B]``.
        seen: int32 ``[B, E]``, items to leave out, ascending, and NO_MORE behind them.
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
        self._most_bias = np.abs(index.bias, where=index.bias > NEVER, out=np.zeros_like(index.bias)).max()
        self._code_error, self._longest = np.float32(index.code_error), np.float32(index.longest)
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
        batch, index = self.prepare(queries, seen), self.index
        maxima, sums = self.scan(batch)
        items = np.zeros((len(queries), self._candidates), np.int32)
        scores = np.full(items.shape, PADDING_SCORE, np.float32)
        for row in range(len(queries)):
            found, logits, normaliser = self._kernels.select(
                index.codes, index.scales, index.bias, index.vectors,
                self._block_scales, self._greatest_scale, batch.vectors[row], batch.coded[row],
                batch.steps[row], batch.seen[row], batch.errors[row], batch.rounding[row],
                maxima[row], sums[row], self._candidates,
            )  # fmt: skip
            # They come in the order of their indices, which those with equal scores keep.
            log_probabilities = logits - normaliser
            best = np.argsort(-log_probabilities, kind="stable")[: self._candidates]
            items[row, : len(best)] = found[best]
            scores[row, : len(best)] = log_probabilities[best]
        return items, scores

    def prepare(self, queries: NDArray[np.float32], seen: NDArray[np.int32]) -> Queries:
        """The batch of `queries` and `seen`, as they are handed to a search."""
        queries, seen = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(seen, np.int32)
        coded, listed = np.empty(queries.shape, np.int16), np.empty(seen.shape, np.int32)
        steps, lengths, lost = np.empty((3, len(queries)), np.float32)
        self._kernels.prepare(queries, seen, self._levels, coded, steps, listed, lengths, lost)
        listed.sort(axis=1)
        rounding = lost * self._longest + np.float32(ROUNDING) * (lengths * self._longest + self._most_bias)
        return Queries(queries, coded, steps, listed, lengths * self._code_error, rounding)

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
