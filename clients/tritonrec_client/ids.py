"""Wire ids: how a service's own ids, integers or strings, become the INT64 that travels.

An integer id travels as it is. A string id travels as its 63-bit BLAKE2b hash, which is the same in every
release and on every machine; a build refuses two strings with the same hash. Which of the two a data set
uses is decided when a release is built, so pass ids of the type that the data had: ``42`` and ``"42"``
are different ids.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from hashlib import blake2b
from typing import SupportsIndex, cast

import numpy as np
import numpy.typing as npt

from tritonrec_client.contract import MAX_ID, PADDING_ID

ALLOWED = f"an integer from {PADDING_ID} to 2**63 - 1, or a string of at least one character"
"""What an id may be, in words, for error messages."""


def wire_id(value: str | SupportsIndex) -> int:
    """The wire id of `value`: an integer as it is, a string as its 63-bit BLAKE2b hash.

    Raises ValueError, naming what is allowed, for an integer below -1 or above 2**63 - 1, an empty string
    or one that UTF-8 cannot hold, and for anything else, bool and float included.
    """
    if isinstance(value, str):
        return _hash(value)
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise ValueError(_refusal(value))
    number = operator.index(value)
    if not PADDING_ID <= number <= MAX_ID:
        raise ValueError(_refusal(value))
    return number


def wire_ids(values: Iterable[str | SupportsIndex] | npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """The wire ids of `values`, int64 ``[n]``; an integer array is checked and converted as a whole.

    Raises ValueError as `wire_id` does, for the first value that is not allowed.
    """
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError(f"ids come in one dimension, found the shape {values.shape}")
        if values.dtype.kind in "iu":
            return _checked(values)
        values = values.tolist()
    return np.fromiter((wire_id(value) for value in cast("Iterable[str | SupportsIndex]", values)), np.int64)


def _checked(numbers: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """`numbers` as int64, or ValueError for the first out of range."""
    bad = numbers < np.array(PADDING_ID) if numbers.dtype.kind == "i" else numbers > np.uint64(MAX_ID)
    if np.any(bad):
        raise ValueError(_refusal(numbers[int(np.argmax(bad))].item()))
    return numbers.astype(np.int64)


def _hash(text: str) -> int:
    if not text:
        raise ValueError(_refusal(text))
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{_refusal(text)} ({error.reason})") from error
    # One bit is dropped so that the hash is never negative: below zero the contract keeps other meanings.
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> 1


def _refusal(value: object) -> str:
    return f"found the id {value!r}; an id is {ALLOWED}"
