"""Training windows: pieces of users' histories, each position with the item that came next."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tools.data.interactions import Interactions


@dataclass(frozen=True)
class Windows:
    """Rows of history with their next items.

    Attributes:
        users: int64 ``[W]``, each window's user row.
        histories: int32 ``[W, L]``, right-aligned item indices, 0 pads the front.
        targets: int32 ``[W, L]``, the item that followed each position; 0 where it is not a target here.
        stops: int64 ``[W]``, the place among all events behind each window's last target.
    """

    users: NDArray[np.int64]
    histories: NDArray[np.int32]
    targets: NDArray[np.int32]
    stops: NDArray[np.int64]


def shuffle_ties(interactions: Interactions, random: np.random.Generator) -> Interactions:
    """The same events with those of one user and one timestamp in a new random order.

    Their true order is not known, so every epoch sees another one.
    """
    users = np.repeat(np.arange(interactions.n_users), interactions.lengths)
    order = np.lexsort((random.random(interactions.n_events), interactions.timestamps, users))
    return replace(interactions, items=interactions.items[order])


def cut_windows(
    interactions: Interactions, length: int, random: np.random.Generator | None = None
) -> Windows:
    """Windows in which every event is a target exactly once, with up to `length` items before it.

    Long users are cut into pieces of `length` targets; with `random` the first cut falls anywhere, so
    that epochs differ. The history of a piece reaches back over the cut.
    """
    lengths = interactions.lengths
    users, begins, ends = [], [], []
    first = np.full(interactions.n_users, length, dtype=np.int64)
    if random is not None:
        first = random.integers(1, length + 1, interactions.n_users)
    # Short users stay whole: cutting them would only cost rows.
    first = np.where(lengths <= length, length, first)
    begin = np.zeros(interactions.n_users, dtype=np.int64)
    end = np.minimum(first, lengths)
    alive = np.flatnonzero(lengths > 0)
    while len(alive):
        users.append(alive)
        begins.append(begin[alive])
        ends.append(end[alive])
        begin[alive] = end[alive]
        end[alive] = np.minimum(begin[alive] + length, lengths[alive])
        alive = alive[begin[alive] < lengths[alive]]
    if not users:
        empty = np.zeros((0, length), dtype=np.int32)
        none = np.zeros(0, dtype=np.int64)
        return Windows(none, empty, empty, none)
    row, start, stop = np.concatenate(users), np.concatenate(begins), np.concatenate(ends)
    # Position j holds the target `stop - length + j`; its newest history item is the one before it.
    position = stop[:, None] - length + np.arange(length)
    base = interactions.offsets[row][:, None]
    last = interactions.n_events - 1
    targets = interactions.items[np.clip(base + position, 0, last)]
    histories = interactions.items[np.clip(base + position - 1, 0, last)]
    return Windows(
        row,
        np.where(position >= 1, histories, 0).astype(np.int32),
        np.where(position >= start[:, None], targets, 0).astype(np.int32),
        interactions.offsets[row] + stop,
    )


def histories_before(
    interactions: Interactions, users: NDArray[np.int64], events: NDArray[np.int64], length: int
) -> NDArray[np.int32]:
    """Each user's newest `length` items before an event, int32 ``[n, length]``, right-aligned, 0 in front.

    `users` are rows; `events` are positions in ``interactions.items`` (a user's end: the whole history).
    """
    if interactions.n_events == 0:
        return np.zeros((len(users), length), dtype=np.int32)
    position = events[:, None] - length + np.arange(length)
    items = interactions.items[np.maximum(position, 0)]
    return np.where(position >= interactions.offsets[users][:, None], items, 0).astype(np.int32)


def last_histories(interactions: Interactions, length: int) -> NDArray[np.int32]:
    """Each user's newest `length` items, int32 ``[U, length]``, right-aligned, 0 pads the front."""
    users = np.arange(interactions.n_users)
    return histories_before(interactions, users, interactions.offsets[1:], length)
