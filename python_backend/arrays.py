"""Whose arrays a stage computes with, and how they come from Triton and go back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class ArrayLibrary(Protocol):
    """What there is to know of numpy, or of another library whose arrays a stage takes and gives."""

    dtypes: Mapping[str, Any]
    """The library's dtype of each of the contract's, by Triton's name."""

    def concatenate(self, arrays: Sequence[Any]) -> Any:
        """The rows of all `arrays`, each ``[B, width]``, in one."""

    def full(self, rows: int, value: int) -> Any:
        """`value` for each row: int64 ``[rows, 1]``."""

    def from_triton(self, tensor: Any) -> Any:
        """The array that the Python backend's `tensor` holds; valid as long as its request."""

    def to_triton(self, tensor_type: Any, name: str, array: Any) -> Any:
        """A tensor of the Python backend, whose class is `tensor_type`, that holds `array` ``[B, width]``."""


class NumpyArrays:
    """numpy's, in the processor's memory."""

    dtypes: Mapping[str, Any] = {
        "INT32": np.dtype(np.int32),
        "INT64": np.dtype(np.int64),
        "FP32": np.dtype(np.float32),
    }

    def concatenate(self, arrays: Sequence[Any]) -> Any:
        return np.concatenate(arrays)

    def full(self, rows: int, value: int) -> Any:
        return np.full((rows, 1), value, dtype=np.int64)

    def from_triton(self, tensor: Any) -> Any:
        return tensor.as_numpy()

    def to_triton(self, tensor_type: Any, name: str, array: Any) -> Any:
        return tensor_type(name, array)


NUMPY = NumpyArrays()
