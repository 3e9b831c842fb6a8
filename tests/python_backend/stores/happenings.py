"""Events for tests, and what a record must hold after them, worked out the slow and simple way."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
from tritonrec_client.contract import Event

from python_backend.stores import EventLog, UserEvent, UserRecord, open_event_log

LIMIT = 5
"""How many events a record keeps in a log of `open_log`."""

_numbers = itertools.count(1)


def event(
    user_id: int = 1,
    item_id: int = 10,
    kind: Event = Event.CLICK,
    timestamp: int = 100,
    event_id: int | None = None,
    release: str | None = None,
) -> UserEvent:
    """An event with an id of its own, unless it is given one."""
    number = next(_numbers) if event_id is None else event_id
    return UserEvent(user_id, item_id, kind, timestamp, number.to_bytes(16, "big"), release)


def record(*pairs: tuple[int, int], **features: object) -> UserRecord:
    """A record of pairs of item and second, oldest first."""
    items, timestamps = zip(*pairs, strict=True) if pairs else ((), ())
    return UserRecord(np.array(items, np.int64), np.array(timestamps, np.int64), features)


def pairs_of(found: object) -> list[tuple[int, int]]:
    assert isinstance(found, UserRecord), found
    return list(zip(found.items.tolist(), found.timestamps.tolist(), strict=True))


def counters_of(events: Sequence[UserEvent]) -> dict[str, int]:
    return dict(Counter(each.event.name.lower() for each in events))


def history_of(
    before: Sequence[tuple[int, int]], events: Sequence[UserEvent], limit: int
) -> list[tuple[int, int]]:
    """The pairs of `before`, then the clicks and purchases, one by one; by second, cut to the newest."""
    history = list(before)
    for each in events:
        if each.event in (Event.CLICK, Event.PURCHASE):
            pair = (each.item_id, each.timestamp)
            history = [*(other for other in history if other != pair), pair]
            history = sorted(history, key=lambda pair: pair[1])[-limit:]
    return history


def logged(log: EventLog) -> list[UserEvent]:
    return [each for _, each in log.read()]


def open_log(url: str, history_limit: int = LIMIT) -> EventLog:
    return open_event_log(url, timeout=5, require_durable=False, history_limit=history_limit)
