"""The best K items of a whole catalogue on a GPU, exactly as float32 scores rank them.

1. A scan of the item vectors in half precision, or of their 8-bit codes, gives each block of items its
   greatest score and its sum of exponentials. All rows of a batch share one pass over the index, and no more
   scores are in memory than those of one tile.
2. The blocks of the greatest maxima are scored again in float32, and the best K of their items are taken.
3. A scanned score is wrong by no more than a bound (Cauchy and Schwarz, and what rounding adds). Where the
   K-th best is further than that above every block that was left out, the list is that of the float search:
   it is `certain`. Rows that are not, `exactly` searches again in float32 alone.

On a card with the Triton language, which comes with CUDA builds of PyTorch, `fused` does all of it in five
kernels; otherwise PyTorch's operators do, with the same lists. All shapes depend on the batch size alone, so
that a CUDA graph can be captured of a call.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from python_backend.exact_search import ROUNDING
from python_backend.gpu.fused import FusedSearch, kernels_importable, tile_size
from python_backend.gpu.keys import from_keys, to_keys
from python_backend.item_index import NEVER, PADDING_SCORE, ItemIndex

Scan = Literal["fp16", "int8"]

BLOCK = 32
"""A scan gives one maximum for so many items."""

SMALL = 1 << 15
"""Up to so many items, scoring all in float32 takes no longer than launching what would spare it."""

TILE_BYTES = 1 << 26
"""The scores of a tile of items, for all rows, take no more memory than this."""

GATHERED_BYTES = 1 << 27
"""Nor do the vectors of the items that are scored again."""

LEFT = float(NEVER) / 2
"""Only items that may not be found have scores below this."""


@dataclass(frozen=True)
class Found:
    """What a search found, on its device.

    Attributes:
        items: int32 ``[B, K]``, best first and by index where scores are equal; 0 where none is left.
        scores: float32 ``[B, K]``, log probabilities among all items not seen; PADDING_SCORE for none.
        certain: bool ``[B]``: whether the row's list is proved to be that of the float search.
    """

    items: Tensor
    scores: Tensor
    certain: Tensor


class GpuSearch:
    """Searches `index` for `candidates` items per query on `device`, which holds it whole.

    `scan` says what the first pass reads: ``fp16`` 2 bytes a dimension, ``int8`` one.
    """

    def __init__(
        self,
        index: ItemIndex,
        *,
        candidates: int,
        device: torch.device,
        scan: Scan = "fp16",
        fused: bool | None = None,
        small: int = SMALL,
    ) -> None:
        """`fused` insists on the kernels or does without; by default a card has them where they work.

        Catalogues of at most `small` items are scored whole in float32. Raises ValueError where `scan` is
        unknown or vectors do not fit into half precision.
        """
        if scan not in ("fp16", "int8"):
            raise ValueError(f"scan is {scan!r}; allowed are fp16 and int8")
        self.candidates = candidates
        self.last_item = len(index.vectors) - 1
        tile = None
        if fused or (fused is None and device.type == "cuda" and kernels_importable()):
            tile = tile_size(len(index.vectors), candidates)
        whole = max(BLOCK, tile or 0)
        n = -(-max(len(index.vectors), candidates) // whole) * whole
        self.vectors = torch.zeros((n, index.vectors.shape[1]), device=device)
        self.vectors[: len(index.vectors)] = _tensor(index.vectors)
        self.bias = torch.full((n,), float(NEVER), device=device)
        self.bias[: len(index.vectors)] = _tensor(index.bias[: len(index.vectors)])
        self.scales: Tensor | None = None
        lost = 0.0
        if len(index.vectors) <= small:
            self.scanned = self.vectors
        elif scan == "int8":
            self.scanned = torch.zeros(self.vectors.shape, dtype=torch.int8, device=device)
            self.scanned[: len(index.vectors)] = _tensor(index.codes[: len(index.vectors)])
            self.scales = torch.zeros(n, device=device)
            self.scales[: len(index.vectors)] = _tensor(index.scales[: len(index.vectors)])
            lost = index.code_error * float(index.scales.max())
        else:
            self.scanned = self.vectors.half()
            for begin in range(0, n, 1 << 18):
                part = slice(begin, begin + (1 << 18))
                difference = (self.vectors[part] - self.scanned[part].float()).norm(dim=1).max()
                lost = max(lost, float(difference))
            if not np.isfinite(lost):
                raise ValueError("item vectors hold values beyond float16's 65504; scan them as int8")
        self._blocks = n // BLOCK
        # Twice as many blocks as items are wanted leave the last of them well below the K-th item.
        self._chosen = min(2 * candidates, self._blocks)
        # Of a query's own rounding to half precision: half a unit in the last place, and of what underflows.
        rounding = (2**-11 + 2**-24 * index.vectors.shape[1] ** 0.5 + ROUNDING) * index.longest
        most_bias = float(np.abs(index.bias, where=index.bias > NEVER, out=np.zeros_like(index.bias)).max())
        self._error_of_length, self._error = lost + rounding, ROUNDING * most_bias
        self._fused: FusedSearch | None = None
        if tile is not None and self.scanned is not self.vectors:
            self._fused = FusedSearch(
                self.vectors,
                self.scanned,
                self.scales,
                self.bias,
                candidates=candidates,
                tile=tile,
                error_of_length=self._error_of_length,
                error=self._error,
            )
            if fused is None and (problem := self._problem_of_kernels()):
                logging.warning("searching with PyTorch's operators, which is slower: %s", problem)
                self._fused = None

    def _problem_of_kernels(self) -> str | None:
        """What keeps the kernels from this card, found by trying them; None where they answer rightly."""
        queries = self.vectors[1:3]
        seen = torch.zeros((len(queries), 1), dtype=torch.int32, device=queries.device)
        try:
            found = self(queries, seen)
            exact = self.exactly(queries, seen)
            close = torch.isclose(found.scores, exact.scores, rtol=1e-2, atol=1e-2)
            if bool((close | ~found.certain.unsqueeze(1)).all()):
                return None
            return "its kernels give other scores on this card"
        except Exception as error:  # whatever a compiler or a driver comes up with
            return f"its kernels do not run on this card ({type(error).__name__}: {error})"

    @property
    def fused(self) -> bool:
        """Whether it searches by the kernels."""
        return self._fused is not None

    @property
    def bytes_scanned(self) -> int:
        """What one pass over the index reads: vectors or codes with their scales, and bias."""
        tables = (self.scanned, self.bias, self.scales)
        return sum(table.nbytes for table in tables if table is not None)

    def __call__(self, queries: Tensor, seen: Tensor) -> Found:
        """The best items for `queries` float32 ``[B, d]`` without those in `seen` int32 ``[B, E]``."""
        if self.scanned is self.vectors:
            return self.exactly(queries, seen)
        if self._fused is not None:
            return Found(*self._fused(queries, seen))
        seen = seen.clamp(min=0).sort(dim=1).values
        maxima, sums = self._scan(queries, seen)
        least, blocks = maxima.topk(self._chosen, dim=1, sorted=False)
        least = least.amin(dim=1)
        places = torch.arange(BLOCK, device=blocks.device)
        items = (blocks.unsqueeze(2) * BLOCK + places).flatten(1)
        scores = self._score(queries, items)
        scores = torch.where(_contains(seen, items), float(NEVER), scores)
        # The sum of what was scored again replaces what the scan made of it.
        greatest = torch.maximum(maxima.amax(dim=1, keepdim=True), scores.amax(dim=1, keepdim=True))
        rest = (sums * (maxima - greatest).exp()).scatter(1, blocks, 0.0).sum(dim=1, keepdim=True)
        total = rest + (scores - greatest).exp().sum(dim=1, keepdim=True)
        keys = to_keys(scores, items).topk(self.candidates, dim=1).values
        last = from_keys(keys[:, -1])[0]
        error = torch.linalg.vector_norm(queries, dim=1) * self._error_of_length + self._error
        certain = (last > least + error) | (least < LEFT)
        if self._chosen == self._blocks:
            certain = torch.ones_like(certain)
        return Found(*_answer(keys, greatest, total), certain)

    def exactly(self, queries: Tensor, seen: Tensor) -> Found:
        """The same, from float32 scores of every item: a tile at a time, and always certain."""
        seen = seen.clamp(min=0)
        best = None
        for begin, end in self._tiles(len(queries)):
            scores = queries @ self.vectors[begin:end].T + self.bias[begin:end]
            scores = _left_out(scores, seen, begin)
            keys = to_keys(scores, torch.arange(begin, end, device=scores.device))
            sums = scores.logsumexp(dim=1, keepdim=True)
            if best is not None:
                keys, sums = torch.cat([best[0], keys], dim=1), torch.logaddexp(best[1], sums)
            best = keys.topk(min(self.candidates, keys.shape[1]), dim=1).values, sums
        assert best is not None
        keys, sums = best
        certain = torch.ones(len(queries), dtype=torch.bool, device=queries.device)
        return Found(*_answer(keys, sums, torch.ones_like(sums)), certain)

    def _tiles(self, rows: int) -> list[tuple[int, int]]:
        """Where tiles of items begin and end: whole blocks, whose scores fit into TILE_BYTES."""
        n, size = len(self.bias), max(TILE_BYTES // (4 * rows) // BLOCK, 1) * BLOCK
        return [(begin, min(begin + size, n)) for begin in range(0, n, size)]

    def _scan(self, queries: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Greatest score and sum of exponentials, relative to it, of each block: float32 ``[B, blocks]``."""
        # Coded relative to the greatest, so that any length fits into half precision.
        steps = queries.abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
        coded = (queries / steps).half()
        maxima, sums = [], []
        for begin, end in self._tiles(len(queries)):
            scores = _products(coded, self.scanned[begin:end]) * steps
            if self.scales is not None:
                scores = scores * self.scales[begin:end]
            scores = _left_out(scores + self.bias[begin:end], seen, begin).reshape(len(queries), -1, BLOCK)
            greatest = scores.amax(dim=2)
            maxima.append(greatest)
            sums.append((scores - greatest.unsqueeze(2)).exp().sum(dim=2))
        return torch.cat(maxima, dim=1), torch.cat(sums, dim=1)

    def _score(self, queries: Tensor, items: Tensor) -> Tensor:
        """Float32 scores ``[B, m]`` of `items` ``[B, m]``."""
        rows = max(GATHERED_BYTES // (4 * items.shape[1] * self.vectors.shape[1]), 1)
        parts = [
            (self.vectors[items[begin : begin + rows]] * queries[begin : begin + rows, None]).sum(dim=2)
            for begin in range(0, len(items), rows)
        ]
        return torch.cat(parts) + self.bias[items]


def _tensor(array: NDArray[Any] | Tensor) -> Tensor:
    # A copy: what is mapped into memory cannot be written to, of which PyTorch warns.
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))


def _products(coded: Tensor, table: Tensor) -> Tensor:
    """Float32 ``[B, n]`` of half-precision `coded` ``[B, d]`` and `table` ``[n, d]``."""
    if coded.is_cuda:
        return torch.mm(coded, table.half().T, out_dtype=torch.float32)
    return coded.float() @ table.float().T


def _left_out(scores: Tensor, seen: Tensor, begin: int) -> Tensor:
    """`scores` of the items from `begin` on, NEVER for those in `seen`."""
    places = seen.long() - begin
    inside = (places >= 0) & (places < scores.shape[1])
    never = torch.where(inside, float(NEVER), torch.inf)
    # The lesser of the two: for an item of another tile, whichever place it is given, nothing changes.
    return scores.scatter_reduce_(1, places.clamp(0, scores.shape[1] - 1), never, "amin")


def _contains(ascending: Tensor, items: Tensor) -> Tensor:
    """Whether each of `items` ``[B, m]`` is in its row of `ascending` ``[B, E]``."""
    items = items.to(ascending.dtype)
    place = torch.searchsorted(ascending, items).clamp(max=ascending.shape[1] - 1)
    return ascending.gather(1, place) == items


def _answer(keys: Tensor, greatest: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Items and log probabilities of the best `keys`; `total` is the sum of exponentials less `greatest`."""
    scores, items = from_keys(keys)
    left = scores > LEFT
    scores = scores - (greatest + total.clamp(min=1e-30).log())
    return torch.where(left, items, 0), torch.where(left, scores, PADDING_SCORE)
