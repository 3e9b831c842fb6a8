"""What users do, and the log that keeps it.

In a log an event is 50 bytes, big-endian: a version byte, user id, item id, event code (1 byte), timestamp,
the event id (16 bytes) and the page's release as the number that `release_to_wire` gives. One of which is
known where on the page its item stood, or how likely it was to stand there, is 58 bytes of the next version:
a float32 and an int32 follow. So releases that know only the first version can read all others.
"""

from __future__ import annotations

import abc
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tritonrec_client.contract import (
    MAX_ID,
    NO_PLACE,
    NO_PROPENSITY,
    NO_RELEASE,
    Acknowledgement,
    Event,
    release_from_wire,
    release_to_wire,
)

EVENT_ID_BYTES = 16
PLAIN, PLACED = 1, 2
"""The versions of an event's binary form."""

EVENT_ID_OFFSET = 26
"""Where the event id begins in an event's binary form."""

_EVENT = struct.Struct(f">BqqBq{EVENT_ID_BYTES}sq")
_PLACE = struct.Struct(">fi")
_LARGEST_PLACE = 2**31 - 1


class CorruptEvent(ValueError):
    """An entry of an event log that cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class UserEvent:
    """One thing that one user did.

    `user_id` and `item_id` are wire ids, `timestamp` is unix seconds, `event_id` 16 bytes that name this
    event for good, `release` the release whose page led to it, or None. `place` is where on that page the
    item stood, from 0, and `propensity` how likely it was to stand there, given all above it (kept as
    float32); None where that is not known.

    Raises ValueError on anything else.
    """

    user_id: int
    item_id: int
    event: Event
    timestamp: int
    event_id: bytes
    release: str | None = None
    propensity: float | None = None
    place: int | None = None

    def __post_init__(self) -> None:
        for name in ("user_id", "item_id", "timestamp"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value <= MAX_ID:
                raise ValueError(f"{name} is {value!r}; it must be an integer from 0 to 2**63 - 1")
        if not isinstance(self.event, Event):
            raise ValueError(f"event is {self.event!r}; it must be an Event")
        if not isinstance(self.event_id, bytes) or len(self.event_id) != EVENT_ID_BYTES:
            raise ValueError(f"event_id is {self.event_id!r}; it must be {EVENT_ID_BYTES} bytes")
        if self.release is not None:
            release_to_wire(self.release)
        if self.propensity is not None and not 0 < self.propensity <= 1:
            raise ValueError(f"propensity is {self.propensity!r}; it must be above 0 and at most 1")
        if self.place is not None and not (isinstance(self.place, int) and 0 <= self.place <= _LARGEST_PLACE):
            raise ValueError(f"place is {self.place!r}; it must be an integer from 0")


def encode_event(event: UserEvent) -> bytes:
    """The binary form of `event`, 50 bytes or 58."""
    release = NO_RELEASE if event.release is None else release_to_wire(event.release)
    rest = b""
    if event.place is not None or event.propensity is not None:
        rest = _PLACE.pack(
            NO_PROPENSITY if event.propensity is None else event.propensity,
            NO_PLACE if event.place is None else event.place,
        )
    version = PLACED if rest else PLAIN
    plain = _EVENT.pack(
        version, event.user_id, event.item_id, event.event, event.timestamp, event.event_id, release
    )
    return plain + rest


def decode_event(data: bytes) -> UserEvent:
    """The inverse of `encode_event`. Raises CorruptEvent, nothing else."""
    lengths = {PLAIN: _EVENT.size, PLACED: _EVENT.size + _PLACE.size}
    if not data or lengths.get(data[0]) != len(data):
        allowed = " or ".join(f"{length} bytes of version {version}" for version, length in lengths.items())
        raise CorruptEvent(f"found {data[:64]!r}; an event is {allowed}")
    version, user_id, item_id, event, timestamp, event_id, release = _EVENT.unpack_from(data)
    propensity, place = NO_PROPENSITY, NO_PLACE
    if version == PLACED:
        propensity, place = _PLACE.unpack_from(data, _EVENT.size)
        if (propensity, place) == (NO_PROPENSITY, NO_PLACE):
            raise CorruptEvent(f"found {data[:64]!r}; version {PLACED} has a place or a propensity")
    try:
        return UserEvent(
            user_id,
            item_id,
            Event(event),
            timestamp,
            event_id,
            None if release == NO_RELEASE else release_from_wire(release),
            None if propensity == NO_PROPENSITY else propensity,
            None if place == NO_PLACE else place,
        )
    except ValueError as error:
        raise CorruptEvent(str(error)) from error


class EventLog(abc.ABC):
    """The durable log of users' events, beside the users' records, and written together with them.

    A log connects when it is first used and again after a failure. It may be used from several threads, and
    several processes may write at once. A position is a string that only the log itself can read; positions
    are never used twice.
    """

    location: str
    """Where the log is, for messages; holds no password."""

    @abc.abstractmethod
    def record(self, events: Sequence[UserEvent]) -> list[Acknowledgement]:
        """Log `events` and apply them to the users' records, all or nothing; in order, one answer for each.

        An event whose id is known, from the log or from earlier in `events`, changes nothing. Clicks and
        purchases enter the history, events of every kind are counted (see updates.py). A record that cannot
        be read, or is missing, is made anew from what the log holds of its user. When this returns,
        everything is on disk.

        Raises StoreUnavailable. Then nothing is acknowledged, though it may have been written: the same
        events with the same ids may be recorded again.
        """

    @abc.abstractmethod
    def read(self, after: str = "", limit: int = 10_000) -> list[tuple[str, UserEvent]]:
        """Up to `limit` events behind the position `after`, oldest first, each with its position.

        "" is the beginning. Raises StoreUnavailable, CorruptEvent, and ValueError on what is not a position.
        """

    @abc.abstractmethod
    def end(self) -> str:
        """The newest position that an event was given; "" where there was none. Raises StoreUnavailable."""

    @abc.abstractmethod
    def forget(self, user_ids: Sequence[int]) -> list[bool]:
        """Remove these users' records, events and event ids; whether there was something, in order.

        Each id is remembered as forgotten, with the time, so that a build from old files does not bring the
        person back. Events that are recorded later are a new start. When this returns, it is on disk. Bytes
        may stay in the store's files until LMDB uses their pages again, or until Redis rewrites its AOF.

        Raises StoreUnavailable, and ValueError on an id below 0.
        """

    @abc.abstractmethod
    def forgotten(self) -> dict[int, int]:
        """When each forgotten user was last forgotten, in unix seconds. Raises StoreUnavailable."""

    @abc.abstractmethod
    def reapply(self, user_ids: Iterable[int], *, anew: bool = False) -> None:
        """Merge everything that the log holds of these users into their records.

        For when something else wrote the records; see tools/data/replay.py. What is there already is not
        added again and counters are counted anew, so doing it twice changes nothing. With `anew`, what the
        record held before is dropped. A record without anything in it is removed.

        Raises StoreUnavailable, CorruptEvent, and ValueError on an id below 0.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give connections and files back; the log opens them again where it is used again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
