"""What users were shown, and what became of it: the views of an event log with the events that followed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import Event

from python_backend.stores import EventLog, UserEvent

AT_ONCE = 10_000


@dataclass(frozen=True)
class Shown:
    """How often each item was shown, and how often its user then clicked on it: int64 ``[I + 1]``."""

    viewed: NDArray[np.int64]
    clicked: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Impression:
    """One item that one user was shown, `view`, and whether the event that was asked for followed."""

    view: UserEvent
    rewarded: bool


def count_shown(log: EventLog, item_ids: NDArray[np.int64]) -> Shown:
    """Views and clicks of the items with the wire ids `item_ids` ``[I + 1]``, of which index 0 is padding.

    A user's clicks on an item count as often, at most, as the user was shown it: the others came from
    elsewhere. Raises StoreUnavailable.
    """
    kinds = {Event.VIEW: 0, Event.CLICK: 1}
    rows = [
        (event.user_id, event.item_id, kinds[event.event]) for event in events(log) if event.event in kinds
    ]
    users, items, clicks = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    order = np.argsort(item_ids)
    place = order[np.minimum(np.searchsorted(item_ids, items, sorter=order), len(item_ids) - 1)]
    known = (item_ids[place] == items) & (place > 0)
    pairs, pair = np.unique(np.stack([users[known], place[known]]), axis=1, return_inverse=True)
    pair = pair.ravel()
    of_pair = [
        np.bincount(pair, weights=clicks[known] == kind, minlength=pairs.shape[1]).astype(np.int64)
        for kind in (0, 1)
    ]
    viewed, clicked = (
        np.bincount(pairs[1], weights=counts, minlength=len(item_ids)).astype(np.int64)
        for counts in (of_pair[0], np.minimum(*of_pair))
    )
    return Shown(viewed, clicked)


def impressions(log: EventLog, reward: Event, window: float) -> list[Impression]:
    """Every view of `log`, in order, and whether its user did `reward` to the item on that page afterwards.

    An event belongs to the newest view before it of the same item by the same user from the same release, if
    that is no more than `window` seconds ago; a view is rewarded once. Raises StoreUnavailable.
    """
    views: list[UserEvent] = []
    rewarded: set[int] = set()
    newest: dict[tuple[int, int, str | None], int] = {}
    for event in sorted(events(log), key=lambda event: event.timestamp):
        key = event.user_id, event.item_id, event.release
        if event.event == Event.VIEW:
            newest[key] = len(views)
            views.append(event)
        elif event.event == reward and key in newest:
            view = newest[key]
            if event.timestamp - views[view].timestamp <= window:
                rewarded.add(view)
    return [Impression(view, number in rewarded) for number, view in enumerate(views)]


def events(log: EventLog) -> Iterator[UserEvent]:
    """Everything in `log` up to now, in the order in which it was logged. Raises StoreUnavailable."""
    position = ""
    while page := log.read(position, AT_ONCE):
        yield from (event for _, event in page)
        position = page[-1][0]
