"""What users do, and the log that keeps it."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tritonrec_client.contract import MAX_ID, Acknowledgement, Event, release_to_wire

EVENT_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class UserEvent:
    """One thing that one user did.

    `user_id` and `item_id` are wire ids, `timestamp` is unix seconds, `event_id` 16 bytes that name this event
    for good, `release` the release whose page led to it, or None.

    Raises ValueError on anything else.
    """

    user_id: int
    item_id: int
    event: Event
    timestamp: int
    event_id: bytes
    release: str | None = None

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
        purchases enter the history; a pair of item and second is there once. Events of every kind are counted.
        When this returns, everything is on disk.

        Raises StoreUnavailable. Then nothing is acknowledged, though it may have been written: the same events
        with the same ids may be recorded again.
        """

    @abc.abstractmethod
    def read(self, after: str = "", limit: int = 10_000) -> list[tuple[str, UserEvent]]:
        """Up to `limit` events behind the position `after` ("" is the beginning), oldest first, with theirs.

        Raises StoreUnavailable, and ValueError on what is not a position.
        """

    @abc.abstractmethod
    def end(self) -> str:
        """The newest position that was given to an event; "" where there was none. Raises StoreUnavailable."""

    @abc.abstractmethod
    def forget(self, user_ids: Sequence[int]) -> list[bool]:
        """Remove these users' records, events and event ids; whether there was something, for each in order.

        Each id is remembered as forgotten, with the time, so that a build from old files does not bring the
        person back. Events that are recorded later are a new start. When this returns, it is on disk.

        Raises StoreUnavailable, and ValueError on an id below 0.
        """

    @abc.abstractmethod
    def forgotten(self) -> dict[int, int]:
        """When each forgotten user was last forgotten, in unix seconds. Raises StoreUnavailable."""

    @abc.abstractmethod
    def reapply(self, user_ids: Iterable[int], *, anew: bool = False) -> None:
        """Merge everything that the log holds of these users into their records; doing it twice changes nothing.

        An item that is in the history with the same second is not added again; counters are counted anew. With
        `anew` what the record held before is dropped, and a user without events loses the record. Needed where
        something else wrote records, see tools/data/replay.py.

        Raises StoreUnavailable, and ValueError on an id below 0.
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
