"""Rows of numbers that are added up for a user, and the best of what comes out.

The rows lie in plain ``.npy`` files that are mapped into memory, so that processes of one machine share
them. Adding is a loop that numba compiles: about 1 ns for each number, where numpy's own ways to scatter
take 5 and more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from python_backend.exact_search import MissingLibrary
from python_backend.item_index import PADDING_SCORE

Items = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Rows:
    """A matrix of which each row keeps some of its columns (compressed sparse rows).

    Row ``r`` has its numbers in ``[offsets[r], offsets[r + 1])`` of the other arrays.

    Attributes:
        offsets: int64 ``[rows + 1]``.
        columns: int32 ``[numbers]``; of length 0 where every row has every column, in order.
        weights: float32 ``[numbers]``; of length 0 where every number is 1.

    Raises ValueError where the arrays do not fit together.
    """

    offsets: NDArray[np.int64]
    columns: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, dtype in (("offsets", np.int64), ("columns", np.int32), ("weights", np.float32)):
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype != dtype:
                raise ValueError(
                    f"{name} is {array.dtype} {list(array.shape)}; it must be {dtype.__name__} [n]"
                )
        numbers = max(len(self.columns), len(self.weights))
        if not len(self.offsets) or self.offsets[-1] != numbers or (np.diff(self.offsets) < 0).any():
            raise ValueError(f"offsets must rise to {numbers}, how many columns and weights there are")
        if {len(self.columns), len(self.weights)} - {0, numbers}:
            raise ValueError(f"{len(self.columns)} columns but {len(self.weights)} weights")

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.offsets) - 1

    def write(self, folder: Path) -> None:
        """Write the rows into the new `folder`."""
        folder.mkdir()
        for name in ("offsets", "columns", "weights"):
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The rows in `folder`, mapped into memory. Raises FileNotFoundError and ValueError."""
        try:
            return cls(*(mapped(folder / f"{name}.npy") for name in ("offsets", "columns", "weights")))
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error

    def sum_of(self, rows: Items, factors: Floats, width: int) -> Floats:
        """The sum of some rows times their `factors`, float32 ``[width]``, added up in the order of `rows`.

        `rows` int32 and `factors` float32 are of one length; `width` is how many columns there are.
        """
        totals = np.zeros(width, np.float32)
        adder()(self.offsets, self.columns, self.weights, rows, factors, totals)
        return totals


def mapped(path: Path) -> NDArray[Any]:
    """The array in the file at `path`, mapped into memory, or read where there is nothing to map."""
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except ValueError:  # of an empty array on older numpy
        return np.asarray(np.load(path))


def own_items(seen: Items, n_items: int) -> Items:
    """The different items in one row of `seen`, ascending: without padding, and what is no item."""
    return np.unique(seen[(seen > 0) & (seen <= n_items)])


def best(items: NDArray[np.integer[Any]], scores: Floats, count: int) -> tuple[Items, Floats]:
    """The `count` of `items` with the greatest `scores`, best first, and these scores.

    `items` must ascend: it is by them that equal scores are ordered. There are fewer where `items` are.
    """
    if len(items) > count:
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        enough = np.flatnonzero(scores >= least)
        items, scores = items[enough], scores[enough]
    order = np.argsort(-scores, kind="stable")[:count]
    return items[order].astype(np.int32), scores[order]


def empty_lists(rows: int, candidates: int) -> tuple[Items, Floats]:
    """Lists of `candidates` places without any item."""
    return np.zeros((rows, candidates), np.int32), np.full((rows, candidates), PADDING_SCORE, np.float32)


@cache
def adder() -> Callable[..., None]:
    """The compiled loop of `Rows.sum_of`. Raises MissingLibrary where numba is not installed."""
    # Importing it takes half a second, which is only spent where something is added up.
    try:
        from python_backend.compiled import compiled, constant, types
    except ModuleNotFoundError as error:
        raise MissingLibrary(
            f"a channel of neighbours needs {error.name}, which is not installed: pip install numba"
        ) from error

    def add(offsets: Any, columns: Any, weights: Any, rows: Any, factors: Any, totals: Any) -> None:
        for place in range(len(rows)):
            begin, end, factor = offsets[rows[place]], offsets[rows[place] + 1], factors[place]
            if len(columns) == 0:
                row = weights[begin:end]
                for column in range(len(row)):
                    totals[column] += factor * row[column]
            elif len(weights) == 0:
                for number in range(begin, end):
                    totals[columns[number]] += factor
            else:
                for number in range(begin, end):
                    totals[columns[number]] += factor * weights[number]

    takes = [
        constant(types.int64, 1), constant(types.int32, 1), constant(types.float32, 1),
        constant(types.int32, 1), constant(types.float32, 1), types.float32[::1],
    ]  # fmt: skip
    loop: Callable[..., None] = compiled(takes, add)
    return loop
