"""Item vectors as a search reads them: 8-bit codes to scan, and the float vectors that they stand for.

The codes are symmetric and each item has its own scale, so that a score is one integer dot product, one
multiplication and one addition: with a query ``q`` in whole steps of size ``s``,
``score = s · scale · (q · codes) + bias``. All arrays are plain ``.npy`` files that are mapped into memory,
so that processes of one machine share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

INDEX = "retrieve_index"
"""The folder among a release's artifacts that its index is in, if it has one."""

CODE_LIMIT = 127
"""Codes are from −127 to 127; −128 would have no opposite."""

BLOCK = 32
"""A scan gives one maximum for each so many items. An index is a whole number of blocks; the items that fill
it up can never be found."""

NEVER = np.float32(-1e30)
"""The bias, and so the score, of what must never be found: finite, so that no NaN arises from it."""

NO_MORE = np.int32(2**31 - 1)
"""Stands in lists of items behind the last: greater than every index."""

PADDING_SCORE = -1e4
"""The retrieval score of a place without a candidate: finite, so that no NaN arises from it."""

ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class ItemIndex:
    """A catalogue to search in.

    Attributes:
        codes: int8 ``[n, d]``, where n is a multiple of BLOCK.
        scales: float32 ``[n]``: an item's vector is about its codes times its scale.
        bias: float32 ``[n]``, added to an item's score; NEVER for padding, which is item 0 and those after
            the last.
        vectors: float32 ``[items + 1, d]``, what the codes stand for.
        code_error: the greatest length of a vector minus what its codes say, in units of its scale.
        longest: the greatest length of a vector, or of what its codes say.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]
    vectors: NDArray[np.float32]
    code_error: float
    longest: float

    @classmethod
    def of(cls, vectors: NDArray[np.float32], bias: NDArray[np.float32]) -> Self:
        """The index of float32 `vectors` ``[items + 1, d]`` and `bias` ``[items + 1]``; item 0 is padding.

        Raises ValueError where the shapes do not fit or a value is not finite.
        """
        if vectors.ndim != 2 or bias.shape != vectors.shape[:1] or not len(vectors):
            raise ValueError(f"vectors {vectors.shape} and bias {bias.shape}; expected [n, d] and [n]")
        if not np.isfinite(vectors).all() or not np.isfinite(bias[1:]).all():
            raise ValueError("vectors and bias hold values that are not finite")
        vectors = np.ascontiguousarray(vectors, np.float32)
        n, width = -len(vectors) // BLOCK * -BLOCK, vectors.shape[1]
        codes = np.zeros((n, width), np.int8)
        scales = np.zeros(n, np.float32)
        code_error = longest = 0.0
        for begin in range(0, len(vectors), ROWS_AT_ONCE):
            rows = vectors[begin : begin + ROWS_AT_ONCE]
            scale = np.abs(rows).max(axis=1) / np.float32(CODE_LIMIT)
            steps = np.rint(rows / np.where(scale > 0, scale, 1)[:, None])
            codes[begin : begin + len(rows)] = steps
            scales[begin : begin + len(rows)] = scale
            decoded = steps * scale[:, None].astype(np.float64)
            lost = np.linalg.norm(rows - decoded, axis=1) / np.where(scale > 0, scale, 1)
            code_error = max(code_error, float(lost.max()))
            longest = max(longest, float(np.linalg.norm([rows, decoded], axis=2).max()))
        padded = np.full(n, NEVER, np.float32)
        padded[1 : len(bias)] = bias[1:]
        return cls(codes, scales, padded, vectors, code_error, longest)

    def write(self, folder: Path) -> None:
        """Write the index into the new `folder`."""
        folder.mkdir(parents=True)
        for name in ("codes", "scales", "bias", "vectors"):
            np.save(folder / f"{name}.npy", getattr(self, name))
        np.save(folder / "bounds.npy", np.array([self.code_error, self.longest]))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The index in `folder`, mapped into memory. Raises FileNotFoundError and ValueError."""
        codes, scales, bias, vectors = (
            np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
            for name in ("codes", "scales", "bias", "vectors")
        )
        n, width = codes.shape
        if n % BLOCK or scales.shape != (n,) or bias.shape != (n,) or vectors.shape[1:] != (width,):
            raise ValueError(f"{folder}: the arrays of the index do not fit together")
        code_error, longest = np.load(folder / "bounds.npy").tolist()
        return cls(codes, scales, bias, vectors, code_error, longest)

    @property
    def bytes_read(self) -> int:
        """What a scan reads: codes, scales and bias."""
        return self.codes.nbytes + self.scales.nbytes + self.bias.nbytes
