"""The event log in the Redis of the users' records.

Beside the records there are the stream ``log``, the hash ``log:ids`` from event ids to places in the stream,
for each user a list ``log:user:<id>`` of the same events, and the hash ``log:forgotten`` from user ids to
unix seconds. Before each name stands the store's prefix without ``user:`` at its end, so ``tritonrec:`` by
default.

New records are made here, from records that were read before; a script writes them together with the events,
unless the records have changed meanwhile: then all is done again. So any number of processes may write.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import redis
from tritonrec_client.contract import Acknowledgement

from python_backend.stores.contract import StoreUnavailable, checked
from python_backend.stores.events import (
    EVENT_ID_BYTES,
    EVENT_ID_OFFSET,
    EventLog,
    UserEvent,
    decode_event,
    encode_event,
)
from python_backend.stores.records import UserRecord, decode_or_error, encode
from python_backend.stores.redis_scripts import COMMIT, FORGET
from python_backend.stores.redis_store import RedisServer
from python_backend.stores.updates import reapplied, updated

ATTEMPTS = 50
"""How often a batch is tried while other writers change the same users."""
LONGEST_PAUSE = 0.01
"""Seconds between two attempts, at most."""

DURABLE = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
"""The settings under which Redis answers only when its disk has everything."""

POSITION = re.compile(r"\d{1,20}-\d{1,20}")

Result = TypeVar("Result")
Read = tuple[bytes | None, list[bytes] | None]
"""A user's record and events as they were read; None for no record, and for events that were not needed."""


class RedisEventLog(EventLog):
    """Events and records in one Redis; positions are the ids of its stream.

    With `require_durable` every new connection looks at the server's settings before it writes, so a server
    that was restarted with others, or replaced, is noticed. Replicas are not waited for.
    """

    def __init__(
        self,
        reader: RedisServer,
        writer: RedisServer,
        history_limit: int,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.location = writer.location
        self._reader = reader
        self._writer = writer
        self._history_limit = history_limit
        self._clock = clock
        base = writer.prefix.removesuffix("user:")
        self._log, self._ids, self._forgotten = f"{base}log", f"{base}log:ids", f"{base}log:forgotten"
        self._events_of = f"{base}log:user:"
        self._commit = writer.client.register_script(COMMIT)
        self._forget = writer.client.register_script(FORGET)

    @classmethod
    def from_url(
        cls, url: str, timeout: float, history_limit: int, *, require_durable: bool = True
    ) -> RedisEventLog:
        """The log of a URL; see `RedisServer.from_url`."""
        reader = RedisServer.from_url(url, timeout)
        writer = RedisServer.from_url(url, timeout, on_connect=_require_durable if require_durable else None)
        return cls(reader, writer, history_limit)

    def record(self, events: Sequence[UserEvent]) -> list[Acknowledgement]:
        if not events:
            return []
        return self._until_undisturbed(lambda: self._try_to_record(events))

    def read(self, after: str = "", limit: int = 10_000) -> list[tuple[str, UserEvent]]:
        start = _next(after) if after else "-"
        with self._reader.reached():
            found = cast(
                list[tuple[bytes, dict[bytes, bytes]]],
                self._reader.client.xrange(self._log, min=start, count=limit),
            )
        return [(position.decode(), decode_event(entry[b"event"])) for position, entry in found]

    def end(self) -> str:
        with self._reader.reached():
            if not self._reader.client.exists(self._log):
                return ""
            stream = cast(dict[str, bytes], self._reader.client.xinfo_stream(self._log))
        newest = stream["last-generated-id"]
        return "" if newest == b"0-0" else newest.decode()

    def forget(self, user_ids: Sequence[int]) -> list[bool]:
        if not user_ids:
            return []
        keys = [key for user_id in user_ids for key in self._keys(user_id)]
        with self._writer.reached():
            answers = self._forget(
                keys=[self._log, self._ids, self._forgotten, *keys],
                args=[int(self._clock()), EVENT_ID_OFFSET, EVENT_ID_BYTES, *user_ids],
            )
        return [answer == 1 for answer in answers]

    def forgotten(self) -> dict[int, int]:
        with self._reader.reached():
            found = cast(dict[bytes, bytes], self._reader.client.hgetall(self._forgotten))
        return {int(user_id): int(seconds) for user_id, seconds in found.items()}

    def reapply(self, user_ids: Iterable[int], *, anew: bool = False) -> None:
        for user_id in user_ids:
            self._until_undisturbed(partial(self._try_to_reapply, checked(user_id), anew))

    def close(self) -> None:
        self._reader.client.close()
        self._writer.client.close()

    def _try_to_record(self, events: Sequence[UserEvent]) -> list[Acknowledgement] | None:
        """One attempt; None where another writer came between."""
        users = list(dict.fromkeys(event.user_id for event in events))
        with self._writer.reached():
            pipeline = self._writer.client.pipeline(transaction=False)
            pipeline.mget([self._writer.user_key(user_id) for user_id in users])
            pipeline.hmget(self._ids, [event.event_id for event in events])
            records, places = cast(tuple[list[bytes | None], list[bytes | None]], pipeline.execute())
        known = {event.event_id for event, place in zip(events, places, strict=True) if place is not None}
        fresh: dict[int, list[UserEvent]] = {}
        answers = []
        for event in events:
            if event.event_id in known:
                answers.append(Acknowledgement.KNOWN)
                continue
            known.add(event.event_id)
            fresh.setdefault(event.user_id, []).append(event)
            answers.append(Acknowledgement.RECORDED)
        changes: dict[int, tuple[Read, UserRecord]] = {}
        for user_id, data in zip(users, records, strict=True):
            if user_id not in fresh:
                continue
            record, logged = decode_or_error(data), None
            if isinstance(record, UserRecord):
                after = updated(record, fresh[user_id], self._history_limit)
            else:
                logged = self._logged(user_id)
                earlier = [decode_event(event) for event in logged]
                after = reapplied(record, [*earlier, *fresh[user_id]], self._history_limit)
            changes[user_id] = (data, logged), after
        pairs = zip(events, answers, strict=True)
        ordered = [event for event, answer in pairs if answer == Acknowledgement.RECORDED]
        return answers if not changes or self._try_to_write(changes, ordered) else None

    def _try_to_reapply(self, user_id: int, anew: bool) -> bool | None:
        with self._writer.reached():
            (data,) = cast(list[bytes | None], self._writer.client.mget([self._writer.user_key(user_id)]))
        logged = self._logged(user_id)
        base = None if anew else decode_or_error(data)
        after = reapplied(base, [decode_event(event) for event in logged], self._history_limit)
        return self._try_to_write({user_id: ((data, logged), after)}, []) or None

    def _try_to_write(self, changes: dict[int, tuple[Read, UserRecord]], events: Sequence[UserEvent]) -> bool:
        keys = [key for user_id in changes for key in self._keys(user_id)]
        arguments: list[bytes | str | int] = [len(changes)]
        for (data, logged), after in changes.values():
            arguments.append("" if data is None else hashlib.sha1(data).hexdigest())
            arguments.append("" if logged is None else len(logged))
            arguments.append("" if after == UserRecord() else encode(after))
        number = {user_id: place for place, user_id in enumerate(changes, 1)}
        for event in events:
            arguments += [number[event.user_id], event.event_id, encode_event(event)]
        with self._writer.reached():
            return self._commit(keys=[self._log, self._ids, *keys], args=arguments) == 1

    def _until_undisturbed(self, attempt: Callable[[], Result | None]) -> Result:
        """What `attempt` gives when it is no longer None."""
        for _ in range(ATTEMPTS):
            result = attempt()
            if result is not None:
                return result
            time.sleep(random.uniform(0, LONGEST_PAUSE))
        raise StoreUnavailable(
            f"{self.location}: other writers changed the same users {ATTEMPTS} times in a row"
        )

    def _logged(self, user_id: int) -> list[bytes]:
        """A user's events as they are in the log, oldest first."""
        with self._writer.reached():
            return cast(list[bytes], self._writer.client.lrange(f"{self._events_of}{user_id}", 0, -1))

    def _keys(self, user_id: int) -> tuple[str, str]:
        return self._writer.user_key(user_id), f"{self._events_of}{user_id}"


def _require_durable(connection: Any) -> None:
    """Raise redis.RedisError unless the server of a new connection acknowledges only what is on its disk."""
    wanted = ", ".join(f"{name} {value}" for name, value in DURABLE.items())
    advice = f"set {wanted} in its configuration, or require_durable to false where losing events is allowed"
    try:
        connection.send_command("CONFIG", "GET", "*append*")
        flat = connection.read_response()
    except redis.ResponseError as error:
        raise redis.RedisError(
            f"cannot see whether it keeps what it acknowledges ({error}); {advice}"
        ) from error
    settings = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    for name, value in DURABLE.items():
        if settings.get(name) != value:
            raise redis.RedisError(
                f"it may lose what it acknowledges: {name} is {settings.get(name)}; {advice}"
            )


def _next(position: str) -> str:
    """The smallest place in a stream behind `position`."""
    if not POSITION.fullmatch(position):
        raise ValueError(f"position is {position!r}; one of this log is <milliseconds>-<number>")
    milliseconds, number = position.split("-")
    return f"{milliseconds}-{int(number) + 1}"
