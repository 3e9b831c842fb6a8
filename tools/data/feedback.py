"""What the event log adds to a data set: events since the files were written, and people to leave out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import Event

from python_backend.stores import EventLog, UserEvent
from tools.data.dataset import Dataset
from tools.data.interactions import Interactions

AT_ONCE = 10_000


@dataclass(frozen=True)
class Feedback:
    """The events of a log that are worth learning from, in the order in which they were logged.

    Attributes:
        user_ids, item_ids: int64 ``[n]``, wire ids.
        timestamps: int64 ``[n]``, unix seconds.
        fresh: bool ``[n]``, which of them were logged after the position that was asked for.
        forgotten: user id → unix seconds when this person asked to be forgotten.
        end: the log's position behind the last event that was read, of whatever kind.
    """

    user_ids: NDArray[np.int64]
    item_ids: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    forgotten: Mapping[int, int]
    end: str


def read_feedback(log: EventLog, kinds: Collection[Event], since: str = "") -> Feedback:
    """All events of one of `kinds` in `log`; those after the position `since` are fresh.

    Raises StoreUnavailable.
    """
    forgotten = log.forgotten()
    fresh = list(_events(log, since))
    # Told apart by where the fresh ones begin: the event at `since` may have been forgotten since.
    first_fresh = fresh[0][0] if fresh else None
    rows: list[tuple[int, int, int, bool]] = []
    for position, event in _events(log, "") if since else ():
        if position == first_fresh:
            break
        if event.event in kinds:
            rows.append((event.user_id, event.item_id, event.timestamp, False))
    rows += [(e.user_id, e.item_id, e.timestamp, True) for _, e in fresh if e.event in kinds]
    user_ids, item_ids, timestamps, is_fresh = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    end = fresh[-1][0] if fresh else since
    return Feedback(user_ids, item_ids, timestamps, is_fresh.astype(bool), forgotten, end)


def _events(log: EventLog, after: str) -> Iterator[tuple[str, UserEvent]]:
    while some := log.read(after, AT_ONCE):
        yield from some
        after = some[-1][0]


def count_fresh(log: EventLog, kinds: Collection[Event], since: str) -> int:
    """How many events of one of `kinds` were logged after the position `since`. Raises StoreUnavailable."""
    return sum(event.event in kinds for _, event in _events(log, since))


def with_feedback(
    dataset: Dataset, feedback: Feedback, repeats: Literal["last", "first"] = "last"
) -> tuple[Dataset, NDArray[np.int64]]:
    """`dataset` with the events of `feedback`, without the people who were forgotten.

    The order of what is in the files stays as it is, ties included, and so do items. Users whom only the log
    knows come last, without features. Events of items that the data set does not have are left out, with a
    note. Where a user meets an item again, `repeats` says which event counts.

    Returns also how many fresh events each user has gained, int64 ``[U]``.
    """
    dataset = without_forgotten(dataset, feedback.forgotten)
    known = dataset.interactions
    items = _places(known.item_ids, feedback.item_ids)
    in_catalogue = items > 0
    item, user_id = items[in_catalogue], feedback.user_ids[in_catalogue]
    timestamp, fresh = feedback.timestamps[in_catalogue], feedback.fresh[in_catalogue]
    user_ids = np.concatenate([known.user_ids, np.setdiff1d(user_id, known.user_ids)])
    owners = np.concatenate([np.repeat(np.arange(known.n_users), known.lengths), _places(user_ids, user_id)])
    everything = np.concatenate([known.items, item.astype(np.int32)])
    seconds = np.concatenate([known.timestamps, timestamp])
    is_fresh = np.concatenate([np.zeros(known.n_events, dtype=bool), fresh])
    # Stable: what the files say first stays first within a second.
    order = np.lexsort((seconds, owners))
    order = order[_counts_once(owners[order], everything[order], repeats)]
    offsets = np.zeros(len(user_ids) + 1, dtype=np.int64)
    np.cumsum(np.bincount(owners[order], minlength=len(user_ids)), out=offsets[1:])
    merged = Interactions(offsets, everything[order], seconds[order], user_ids, known.item_ids)
    gained = np.bincount(owners[order], weights=is_fresh[order], minlength=len(user_ids)).astype(np.int64)
    newcomers = len(user_ids) - known.n_users
    notes = dataset.notes
    if left_out := int((~in_catalogue).sum()):
        missing = len(np.unique(feedback.item_ids[~in_catalogue]))
        notes += (
            f"{left_out:,} logged events of {missing:,} items that [data.items] does not have are left out",
        )
    return (
        replace(
            dataset,
            interactions=merged,
            user_keys=[*dataset.user_keys, *[""] * newcomers],
            user_features=[*dataset.user_features, *({} for _ in range(newcomers))],
            data_range=(
                min([dataset.data_range[0], *timestamp.tolist()]),
                max([dataset.data_range[1], *timestamp.tolist()]),
            ),
            notes=notes,
        ),
        gained,
    )


def without_forgotten(dataset: Dataset, forgotten: Mapping[int, int]) -> Dataset:
    """`dataset` without what the files hold of the users in `forgotten` up to when they were forgotten."""
    if not forgotten:
        return dataset
    known = dataset.interactions
    owners = np.repeat(np.arange(known.n_users), known.lengths)
    until = np.array([forgotten.get(user, -1) for user in known.user_ids.tolist()], dtype=np.int64)
    keep = known.timestamps > until[owners]
    lengths = np.bincount(owners[keep], minlength=known.n_users)
    rows = np.flatnonzero((until < 0) | (lengths > 0))
    interactions = Interactions(
        np.concatenate([[0], np.cumsum(lengths[rows])]).astype(np.int64),
        known.items[keep],
        known.timestamps[keep],
        known.user_ids[rows],
        known.item_ids,
    )
    return replace(
        dataset,
        interactions=interactions,
        user_keys=[dataset.user_keys[row] for row in rows],
        # Who comes back after being forgotten starts without the old features.
        user_features=[dataset.user_features[row] if until[row] < 0 else {} for row in rows],
    )


def _places(known: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of `wanted` stands in `known`, whose values are unique; 0 for what is not there."""
    order = np.argsort(known)
    places = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
    return np.where(known[places] == wanted, places, 0)


def _counts_once(
    owners: NDArray[np.int64], items: NDArray[np.int32], repeats: Literal["last", "first"]
) -> NDArray[np.bool_]:
    """Which events, ordered by user and time, count: of each pair of user and item the last, or the first."""
    pairs = owners * (int(items.max(initial=0)) + 1) + items
    keep = np.zeros(len(pairs), dtype=bool)
    if repeats == "last":
        keep[len(pairs) - 1 - np.unique(pairs[::-1], return_index=True)[1]] = True
    else:
        keep[np.unique(pairs, return_index=True)[1]] = True
    return keep
