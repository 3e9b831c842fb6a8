"""Wire ids: how a service's own ids, integers or strings, become the INT64 that travels.

An integer id travels as it is. A string id travels as its 63-bit BLAKE2b hash, which is the same in every
release and on every machine; a build refuses two strings with the same hash. Which of the two a data set
uses is decided when a release is built, so pass ids of the type that the data had: ``42`` and ``"42"``
are different ids.

A pseudonym stands for a user's id where nobody but the owner of a key may know whose it is.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import SupportsIndex, cast

import numpy as np
import numpy.typing as npt

from tritonrec_client.contract import ANONYMOUS, MAX_ID, PADDING_ID

ALLOWED = f"an integer from {PADDING_ID} to 2**63 - 1, or a string of at least one character"
"""What an id may be, in words, for error messages."""

PSEUDONYM_KEY_VARIABLE = "TRITONREC_PSEUDONYM_KEY"
"""The environment variable that may hold the key of pseudonyms, in hexadecimal digits."""

SHORTEST_KEY, LONGEST_KEY = 16, 64
"""Bytes of a key of pseudonyms; BLAKE2b takes no longer one."""


def wire_id(value: str | SupportsIndex) -> int:
    """The wire id of `value`: an integer as it is, a string as its 63-bit BLAKE2b hash.

    Raises ValueError, naming what is allowed, for an integer below -1 or above 2**63 - 1, an empty string
    or one that UTF-8 cannot hold, and for anything else, bool and float included.
    """
    return _hash(_encoded(value)) if isinstance(value, str) else _integer(value)


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


def pseudonym(value: str | SupportsIndex, key: bytes) -> int:
    """What stands for the user id `value`: 63 bits of its BLAKE2b hash under `key`; -1 stays anonymous.

    Whoever has the key can tell which user a pseudonym stands for; without it nobody can, its owner
    included. Under another key everybody is somebody else. Raises ValueError as `wire_id` does, and for
    a key that is not 16 to 64 bytes.
    """
    return _pseudonym(value, check_pseudonym_key(key))


def pseudonyms(
    values: Iterable[str | SupportsIndex] | npt.NDArray[np.generic], key: bytes
) -> npt.NDArray[np.int64]:
    """The pseudonyms of `values`, int64 ``[n]``. Raises ValueError as `pseudonym` does."""
    key = check_pseudonym_key(key)
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError(f"ids come in one dimension, found the shape {values.shape}")
        values = values.tolist()
    each = cast("Iterable[str | SupportsIndex]", values)
    return np.fromiter((_pseudonym(value, key) for value in each), np.int64)


def check_pseudonym_key(key: bytes) -> bytes:
    """`key` itself. Raises ValueError, which does not show it, unless it is 16 to 64 bytes."""
    if not isinstance(key, bytes):
        raise ValueError(f"the pseudonym key is of type {type(key).__name__}; it must be bytes")
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise ValueError(
            f"the pseudonym key has {len(key)} bytes; it must have {SHORTEST_KEY} to {LONGEST_KEY}"
        )
    return key


def read_pseudonym_key(path: str | Path | None = None) -> bytes | None:
    """The key in the file at `path`, or in the environment's TRITONREC_PSEUDONYM_KEY; None for neither.

    Either holds hexadecimal digits, for instance what ``openssl rand -hex 32`` prints. Raises OSError, and
    ValueError, which does not show the key, for anything else.
    """
    if path is not None:
        source, text = str(path), Path(path).read_text(encoding="utf-8")
    else:
        source, text = PSEUDONYM_KEY_VARIABLE, os.environ.get(PSEUDONYM_KEY_VARIABLE, "")
        if not text:
            return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        found = f"{len(text.strip())} characters that are not hexadecimal digits"
        allowed = f"{2 * SHORTEST_KEY} to {2 * LONGEST_KEY} hexadecimal digits"
        raise ValueError(f"{source}: found {found}; allowed is {allowed}") from None
    try:
        return check_pseudonym_key(key)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _pseudonym(value: str | SupportsIndex, key: bytes) -> int:
    if isinstance(value, str):
        return _hash(b"s:" + _encoded(value), key)
    number = _integer(value)
    return ANONYMOUS if number == ANONYMOUS else _hash(b"i:%d" % number, key)


def _integer(value: SupportsIndex) -> int:
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise ValueError(_refusal(value))
    number = operator.index(value)
    if not PADDING_ID <= number <= MAX_ID:
        raise ValueError(_refusal(value))
    return number


def _checked(numbers: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """`numbers` as int64, or ValueError for the first out of range."""
    bad = numbers < np.array(PADDING_ID) if numbers.dtype.kind == "i" else numbers > np.uint64(MAX_ID)
    if np.any(bad):
        raise ValueError(_refusal(numbers[int(np.argmax(bad))].item()))
    return numbers.astype(np.int64)


def _encoded(text: str) -> bytes:
    if not text:
        raise ValueError(_refusal(text))
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{_refusal(text)} ({error.reason})") from error


def _hash(data: bytes, key: bytes = b"") -> int:
    # One bit is dropped so that the hash is never negative: below zero the contract keeps other meanings.
    return int.from_bytes(blake2b(data, digest_size=8, key=key).digest(), "big") >> 1


def _refusal(value: object) -> str:
    return f"found the id {value!r}; an id is {ALLOWED}"
