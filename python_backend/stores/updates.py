"""What events make of a user's record.

A history holds each pair of item and second once, at its newest place, in the order of seconds and, within
one, of arrival, cut to the newest. So it does not matter in which portions the events come, and merging what
is there already changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tritonrec_client.contract import Event

from python_backend.stores.events import UserEvent
from python_backend.stores.records import CorruptRecord, UserRecord, cut_record

IN_HISTORY = frozenset({Event.CLICK, Event.PURCHASE})
"""What a user chose; the other kinds say what was offered."""


def updated(record: UserRecord, events: Sequence[UserEvent], history_limit: int) -> UserRecord:
    """`record` after the new `events` of its user, in the order in which they were logged.

    Clicks and purchases enter the history, which keeps the `history_limit` newest; all kinds are counted.
    """
    counters = Counter(record.counters)
    counters.update(event.event.name.lower() for event in events)
    entered = [(event.item_id, event.timestamp) for event in events if event.event in IN_HISTORY]
    if not entered:
        return replace(record, counters=dict(counters))
    newest_first = list(dict.fromkeys(reversed(entered)))
    items, timestamps = np.array(newest_first[::-1], np.int64).T
    replaced = np.zeros(len(record.items), np.bool_)
    for item, timestamp in newest_first:
        replaced |= (record.items == item) & (record.timestamps == timestamp)
    cut = cut_record(
        np.concatenate([record.items[~replaced], items]),
        np.concatenate([record.timestamps[~replaced], timestamps]),
        record.features,
        history_limit,
    )
    return replace(cut, counters=dict(counters))


def reapplied(
    record: UserRecord | CorruptRecord | None, logged: Sequence[UserEvent], history_limit: int
) -> UserRecord:
    """`record` with everything that the log holds of its user, counted anew.

    What cannot be read, or is not there, is taken for an empty record: features are gone then, until a build
    writes them again, but nothing that was acknowledged is.
    """
    base = replace(record, counters={}) if isinstance(record, UserRecord) else UserRecord()
    return updated(base, logged, history_limit)
