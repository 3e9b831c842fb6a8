"""The search by the kernels of `kernels`: their memory, their launches, and when they fit."""

from __future__ import annotations

import importlib.util
import math

import torch
from torch import Tensor

ROOM, ROOM_FOR_CODES = 2, 4
"""There is room for so many times as many items as are wanted, and a power of two: what may be among the best
500 of 400,000 was 550 items by half precision, and 900 by 8-bit codes."""

MOST_CANDIDATES = 1024
"""Of more, sorting what was collected does not fit into one block of threads."""

LEAST_TILE, PART = 16, 128
"""Items of the smallest tile, which is what tensor cores multiply at once, and of a step within a tile."""

MOST_ROWS = 64
GROUP, LARGE_GROUP, FEW_ROWS = 4, 16, 8
"""Tiles that one program looks at for what to collect: few of them where few rows share the card."""

SEEN = 256


def kernels_importable() -> bool:
    """Whether the Triton language is installed; it comes with CUDA builds of PyTorch."""
    return importlib.util.find_spec("triton") is not None


def tile_size(items: int, candidates: int) -> int | None:
    """How many of `items` to a tile, so that there are 24 to 48 times as many tiles as candidates.

    About as many tiles as candidates are read a second time, which is then a small part of the whole.

    None where the kernels do not fit: too few items, or too many candidates.
    """
    tile = max(2 ** int(math.log2(max(items / (24 * candidates), 1))), LEAST_TILE)
    return tile if items >= 2 * candidates * tile and candidates <= MOST_CANDIDATES else None


class FusedSearch:
    """Launches the kernels over tables whose rows are a whole number of tiles."""

    def __init__(
        self, exact: Tensor, scanned: Tensor, scales: Tensor | None, bias: Tensor, *,
        candidates: int, tile: int, error_of_length: float, error: float,
    ) -> None:  # fmt: skip
        """The tables of a `GpuSearch`: float32 and scanned vectors ``[n, d]``, scales and bias ``[n]``."""
        from python_backend.gpu import kernels

        self._kernels = kernels
        self._exact, self._scanned, self._bias = exact, scanned, bias
        self._scaled, self._scales = scales is not None, bias if scales is None else scales
        self._candidates, self._tile, self._part = candidates, tile, min(tile, PART)
        self._errors = error_of_length, error
        self._n, self._width = exact.shape
        self._columns = max(2 ** math.ceil(math.log2(self._width)), 16)
        self._tiles = self._n // tile
        room = candidates * (ROOM_FOR_CODES if self._scaled else ROOM)
        self._capacity = 2 ** math.ceil(math.log2(max(room, 128)))
        # Marks of what is seen. Never given back, since captured graphs write to them.
        self._hidden: list[Tensor] = []

    def __call__(self, queries: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Items int32 and log probabilities float32 ``[B, K]``, and bool ``[B]`` whether they are certain."""
        parts = [
            self._search(queries[begin : begin + MOST_ROWS], seen[begin : begin + MOST_ROWS])
            for begin in range(0, len(queries), MOST_ROWS)
        ]
        items, scores, certain = (
            parts[0] if len(parts) == 1 else (torch.cat(each) for each in zip(*parts, strict=True))
        )
        return items, scores, certain != 0

    def _marks(self, rows: int) -> Tensor:
        for marks in self._hidden:
            if len(marks) >= rows:
                return marks
        self._hidden.append(torch.zeros((rows, self._n), dtype=torch.int8, device=self._exact.device))
        return self._hidden[-1]

    def _search(self, queries: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, device, kernels = len(queries), queries.device, self._kernels
        queries, seen, marks = queries.contiguous(), seen.contiguous(), self._marks(rows)

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        coded = empty(rows, self._columns, dtype=torch.float16)
        steps, errors, least, greatest, totals = empty(5, rows)
        counts = empty(rows, dtype=torch.int32)
        maxima, sums = empty(2, rows, self._tiles)
        found = empty(rows, self._capacity, dtype=torch.int32)
        scores, rough = empty(2, rows, self._capacity)
        items, answer = empty(rows, self._candidates, dtype=torch.int32), empty(rows, self._candidates)
        certain = empty(rows, dtype=torch.int8)
        widths = {"width": self._width, "columns": self._columns}
        # Tensor cores multiply by 16 columns at least.
        batch = 1 if rows == 1 else max(2 ** math.ceil(math.log2(rows)), 16)
        tile = {"tile_size": self._tile, "part_size": self._part, "scaled": self._scaled}
        kernels.prepare[(rows,)](
            queries, seen, coded, steps, errors, counts, marks, *self._errors, self._n, seen.shape[1],
            **widths, at_once=SEEN,
        )  # fmt: skip
        kernels.scan[(self._tiles,)](
            self._scanned, self._scales, self._bias, marks, coded, steps, maxima, sums,
            rows, self._n, self._tiles,
            **widths, **tile, batch=batch, num_warps=8 if batch > 16 else 4,
        )  # fmt: skip
        kernels.threshold[(rows,)](
            maxima, sums, least, greatest, totals, self._tiles,
            room=2 ** math.ceil(math.log2(self._tiles)), wanted=self._candidates, num_warps=32,
        )  # fmt: skip
        group = GROUP if rows <= FEW_ROWS else LARGE_GROUP
        kernels.collect[(-(-self._tiles // group), rows)](
            self._exact, self._scanned, self._scales, self._bias, marks, queries, coded, steps,
            errors, maxima, least, counts, found, scores, rough, self._n, self._tiles,
            **widths, **tile, group=group, capacity=self._capacity,
        )  # fmt: skip
        kernels.finish[(rows,)](
            seen, marks, counts, found, scores, rough, greatest, totals,
            items, answer, certain, self._n, seen.shape[1],
            wanted=self._candidates, capacity=self._capacity, at_once=SEEN, num_warps=16,
        )  # fmt: skip
        return items, answer, certain
