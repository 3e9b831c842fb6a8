"""Channels that are a matrix of items × items: what each item says of the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import Sizes

from python_backend.channels.item_neighbours import ROWS
from python_backend.channels.rows import Rows
from tools.channels.lookup_files import Floats, Items, prove, write_kind

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class ItemRows:
    """The matrix ``[I + 1, I + 1]``, sparse or, where every number is kept, dense.

    Row j holds what item j of a user says of each item; row and column 0 are padding's and hold nothing.
    """

    matrix: csr_matrix | NDArray[np.float32]

    def write(self, folder: Path, sizes: Sizes) -> None:
        """Write what `ItemNeighbours` serves, and prove it. Raises GraphMismatch, and CheckFailed where
        numba is not installed.
        """
        rows_of(self.matrix).write(folder / ROWS)
        write_kind(folder, "item_neighbours")
        prove(folder, sizes, self.matrix.shape[0] - 1, self._score)

    def _score(self, history: Items, own: Items) -> Floats:
        totals = np.asarray(self.matrix[own].sum(axis=0), np.float32).ravel()
        return np.where(totals == 0, np.float32(np.nan), totals)


def rows_of(matrix: csr_matrix | NDArray[np.float32]) -> Rows:
    """`matrix` as it is served."""
    if isinstance(matrix, np.ndarray):
        offsets = np.arange(len(matrix) + 1, dtype=np.int64) * matrix.shape[1]
        return Rows(offsets, np.zeros(0, np.int32), np.ascontiguousarray(matrix, np.float32).ravel())
    return Rows(
        matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float32)
    )
