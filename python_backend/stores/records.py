"""What a store keeps of a user, and its binary form.

A record holds wire ids and raw features, never a model's indices: indices belong to a release, and two
releases may read the same store at once.

The binary form is one version byte, the CRC-32 of everything else (4 bytes, little-endian) and a msgpack
map of ``items`` and ``timestamps`` (raw little-endian int64), ``features`` (a map) and, where something was
counted, ``counters`` (a map). Readers ignore what else is in it. The checksum is there because a damaged
history would otherwise become quietly wrong recommendations.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

VERSION = 1

_HEADER = struct.Struct("<BI")
_LITTLE_ENDIAN = np.dtype("<i8")
_NO_EVENTS = np.zeros(0, np.int64)


class CorruptRecord(ValueError):
    """Bytes that are not a whole, valid record; the message says what is wrong with them."""


@dataclass(frozen=True, slots=True, eq=False)
class UserRecord:
    """What is known of one user.

    `items` are wire ids, int64 ``[n]``, oldest first; `timestamps` are their unix seconds, int64 ``[n]``;
    `features` are raw: str, float or list of str by field name, a missing value has no key; `counters` say
    how many events of each kind were recorded, by the kind's name in lower case.

    Raises ValueError where the lengths differ, an id or a count is below 0, or a feature is of another type.
    """

    items: npt.NDArray[np.int64] = field(default_factory=lambda: _NO_EVENTS)
    timestamps: npt.NDArray[np.int64] = field(default_factory=lambda: _NO_EVENTS)
    features: Mapping[str, Any] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("items", "timestamps"):
            values = getattr(self, name)
            if not isinstance(values, np.ndarray) or values.dtype != np.int64 or values.ndim != 1:
                raise ValueError(f"{name} must be one int64 array [n]")
        if len(self.items) != len(self.timestamps):
            raise ValueError(f"there are {len(self.items)} items but {len(self.timestamps)} timestamps")
        if len(self.items) and self.items.min() < 0:
            raise ValueError(f"items holds {self.items.min()}; an item's id is at least 0")
        for name, value in self.features.items():
            if not isinstance(name, str):
                raise ValueError(f"a feature's name is {name!r}; it must be a string")
            if not _is_raw_feature(value):
                raise ValueError(
                    f"feature {name!r}: found {type(value).__name__}, expected str, float or list of str"
                )
        for name, count in self.counters.items():
            if not isinstance(name, str) or not isinstance(count, int) or count < 0:
                raise ValueError(f"counter {name!r} is {count!r}; it must be an integer of at least 0")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UserRecord):
            return NotImplemented
        return (
            np.array_equal(self.items, other.items)
            and np.array_equal(self.timestamps, other.timestamps)
            and self.features == other.features
            and self.counters == other.counters
        )

    __hash__ = None  # type: ignore[assignment]


def cut_record(
    items: npt.NDArray[np.int64],
    timestamps: npt.NDArray[np.int64],
    features: Mapping[str, Any],
    newest: int | None = None,
) -> UserRecord:
    """The record of a user whose events are given in any order, cut to the `newest` ones (None: all).

    Events of the same second keep the order in which they are given. Raises ValueError as `UserRecord` does.
    """
    if newest is not None and newest < 0:
        raise ValueError(f"newest is {newest}; it must be at least 0")
    if len(items) != len(timestamps):
        raise ValueError(f"there are {len(items)} items but {len(timestamps)} timestamps")
    order = np.argsort(timestamps, kind="stable")
    order = order[max(0, len(order) - newest) :] if newest is not None else order
    return UserRecord(items[order], timestamps[order], features)


def encode(record: UserRecord) -> bytes:
    """The binary form of `record`. Raises ValueError where a feature does not fit msgpack."""
    content: dict[str, Any] = {
        "items": record.items.astype(_LITTLE_ENDIAN, copy=False).tobytes(),
        "timestamps": record.timestamps.astype(_LITTLE_ENDIAN, copy=False).tobytes(),
        "features": dict(record.features),
    }
    if record.counters:
        content["counters"] = dict(record.counters)
    try:
        payload: bytes = msgpack.packb(content)
    except OverflowError as error:
        raise ValueError(f"a number among the features is too large: {error}") from error
    return _HEADER.pack(VERSION, _checksum(payload)) + payload


def decode(data: bytes) -> UserRecord:
    """The inverse of `encode`; arrays are read-only views of `data`. Raises CorruptRecord, nothing else."""
    if len(data) < _HEADER.size:
        raise CorruptRecord(f"{len(data)} bytes are too short for a record")
    version, checksum = _HEADER.unpack_from(data)
    if version != VERSION:
        raise CorruptRecord(f"version is {version}; this release reads {VERSION}")
    payload = memoryview(data)[_HEADER.size :]
    if checksum != _checksum(payload):
        raise CorruptRecord("the checksum does not fit the content")
    # The bytes are whole, yet another writer may have put anything into them: whatever fails here fails on
    # foreign input, and must cost one user's history and not the batch.
    try:
        content = msgpack.unpackb(payload)
        return UserRecord(
            np.frombuffer(content["items"], _LITTLE_ENDIAN).astype(np.int64, copy=False),
            np.frombuffer(content["timestamps"], _LITTLE_ENDIAN).astype(np.int64, copy=False),
            dict(content["features"]),
            dict(content.get("counters", {})),
        )
    except Exception as error:
        raise CorruptRecord(f"the content is not a user's record: {error!r}") from error


def decode_or_error(data: bytes | None) -> UserRecord | CorruptRecord | None:
    """What a store gives for one user: `decode`'s record, its error as a value, or None for no bytes."""
    try:
        return None if data is None else decode(data)
    except CorruptRecord as error:
        return error


def _checksum(payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, VERSION)


def _is_raw_feature(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(one, str) for one in value)
    return isinstance(value, (str, float, int)) and not isinstance(value, bool)
