"""The event log in the LMDB folder of the users' records: one transaction writes both.

All keys are in the folder's one database. A user's key begins with a bit that is 0 (see `user_key`); keys
of the log begin with a byte above 127, so releases that know no log never meet them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from tritonrec_client.contract import Acknowledgement

from python_backend.stores.contract import checked
from python_backend.stores.events import EventLog, UserEvent, decode_event, encode_event
from python_backend.stores.lmdb_environment import Transaction
from python_backend.stores.lmdb_store import LmdbFolder, user_key
from python_backend.stores.records import UserRecord, decode_or_error, encode
from python_backend.stores.updates import reapplied, updated

NEWEST = b"\x80"
"""→ the newest position, 8 bytes like all positions; it stays when its event is forgotten."""
ENTRY = b"\x81"
"""+ position → the event."""
EVENT_ID = b"\x82"
"""+ event id → its position."""
OF_USER = b"\x83"
"""+ user's key + position → nothing."""
FORGOTTEN = b"\x84"
"""+ user's key → unix seconds, 8 bytes."""

KEY = 8
"""Bytes of a user's key, of a position and of a time."""

NO_RECORD = UserRecord()

Result = TypeVar("Result")


class LmdbEventLog(EventLog):
    """Events and records in one folder; positions are the numbers from 1, in decimal.

    A commit waits for the disk, so what is acknowledged survives the machine.
    """

    def __init__(
        self, folder: LmdbFolder, history_limit: int, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.location = folder.location
        self._folder = folder
        self._history_limit = history_limit
        self._clock = clock

    def record(self, events: Sequence[UserEvent]) -> list[Acknowledgement]:
        if not events:
            return []
        return self._folder.write(lambda transaction: self._record(transaction, events))

    def read(self, after: str = "", limit: int = 10_000) -> list[tuple[str, UserEvent]]:
        start = ENTRY + _position(after).to_bytes(KEY, "big")

        def look(transaction: Transaction) -> list[tuple[bytes, bytes]]:
            found: list[tuple[bytes, bytes]] = []
            for key, data in _pairs_from(transaction, start, ENTRY):
                if len(found) == limit:
                    break
                if key != start:
                    found.append((key, data))
            return found

        pairs = self._read(look) or []
        return [(str(int.from_bytes(key[1:], "big")), decode_event(data)) for key, data in pairs]

    def end(self) -> str:
        newest = self._read(lambda transaction: transaction.get(NEWEST))
        return "" if newest is None else str(int.from_bytes(newest, "big"))

    def forget(self, user_ids: Sequence[int]) -> list[bool]:
        keys = [user_key(user_id) for user_id in user_ids]
        now = int(self._clock()).to_bytes(KEY, "big")

        def change(transaction: Transaction) -> list[bool]:
            return [_forget(transaction, key, now) for key in keys]

        return self._folder.write(change) if keys else []

    def forgotten(self) -> dict[int, int]:
        pairs = self._read(lambda transaction: list(_pairs_from(transaction, FORGOTTEN, FORGOTTEN))) or []
        return {int.from_bytes(key[1:], "big"): int.from_bytes(data, "big") for key, data in pairs}

    def reapply(self, user_ids: Iterable[int], *, anew: bool = False) -> None:
        keys = [user_key(checked(user_id)) for user_id in user_ids]

        def change(transaction: Transaction) -> None:
            for key in keys:
                before = transaction.get(key)
                base = NO_RECORD if anew else decode_or_error(before)
                record = reapplied(base, _logged(transaction, key), self._history_limit)
                if record == NO_RECORD:
                    transaction.delete(key)
                elif (data := encode(record)) != before:
                    transaction.put(key, data)

        if keys:
            self._folder.write(change)

    def close(self) -> None:
        self._folder.close()

    def _read(self, look: Callable[[Transaction], Result]) -> Result | None:
        """What `look` finds; None in a folder that nobody has written to yet, which is an empty log."""
        return self._folder.read(look) if self._folder.exists else None

    def _record(self, transaction: Transaction, events: Sequence[UserEvent]) -> list[Acknowledgement]:
        newest = int.from_bytes(transaction.get(NEWEST, b""), "big")
        answers = []
        fresh: dict[bytes, list[UserEvent]] = {}
        for event in events:
            # The transaction sees its own writes: this finds an id that came twice in `events`, too.
            if transaction.get(EVENT_ID + event.event_id) is not None:
                answers.append(Acknowledgement.KNOWN)
                continue
            newest += 1
            position, key = newest.to_bytes(KEY, "big"), user_key(event.user_id)
            transaction.put(ENTRY + position, encode_event(event))
            transaction.put(EVENT_ID + event.event_id, position)
            transaction.put(OF_USER + key + position, b"")
            fresh.setdefault(key, []).append(event)
            answers.append(Acknowledgement.RECORDED)
        for key, new in fresh.items():
            found = decode_or_error(transaction.get(key))
            record = (
                updated(found, new, self._history_limit)
                if isinstance(found, UserRecord)
                else reapplied(found, _logged(transaction, key), self._history_limit)
            )
            transaction.put(key, encode(record))
        if fresh:
            transaction.put(NEWEST, newest.to_bytes(KEY, "big"))
        return answers


def _pairs_from(transaction: Transaction, start: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values with `prefix`, from `start` on, in order."""
    cursor = transaction.cursor()
    if cursor.set_range(start):
        for key, data in cursor:
            if not key.startswith(prefix):
                return
            yield key, data


def _positions(transaction: Transaction, user: bytes) -> list[bytes]:
    prefix = OF_USER + user
    return [key[len(prefix) :] for key, _ in _pairs_from(transaction, prefix, prefix)]


def _logged(transaction: Transaction, user: bytes) -> list[UserEvent]:
    """A user's events, oldest first."""
    return [decode_event(transaction.get(ENTRY + position)) for position in _positions(transaction, user)]


def _forget(transaction: Transaction, user: bytes, now: bytes) -> bool:
    there = bool(transaction.delete(user))
    for position in _positions(transaction, user):
        event = decode_event(transaction.pop(ENTRY + position))
        transaction.delete(EVENT_ID + event.event_id)
        transaction.delete(OF_USER + user + position)
        there = True
    transaction.put(FORGOTTEN + user, now)
    return there


def _position(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and int(text) < 2**64 - 1):
        raise ValueError(f"position is {text!r}; one of this log is a number")
    return int(text or "0")
