"""Sorts events into every user's history."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray


def group_by_user(
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    nanoseconds: NDArray[np.int64],
    *,
    n_users: int,
    seed: int,
    repeats: Literal["last", "first"] = "last",
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Group events by user, oldest first, each item once per user.

    Events of a user with the same time come in a random order that `seed` decides: neither the file's order
    nor the ids may leak into what counts as a user's last item. Where a user meets an item again, the last
    event counts, or the first, as `repeats` says.

    Args:
        users: int32 ``[n]``, each event's user row, 0 … n_users - 1.
        items: int32 ``[n]``, each event's item index.
        nanoseconds: int64 ``[n]`` since 1970.

    Returns:
        offsets int64 ``[n_users + 1]``, items int32 ``[m]`` and timestamps int64 ``[m]`` in seconds, with
        m ≤ n, as `Interactions` holds them.
    """
    tie = np.random.default_rng(seed).permutation(len(users))
    order = np.lexsort((tie, nanoseconds, users))
    del tie
    order = order[_once(users[order], items[order], repeats)]
    offsets = np.zeros(n_users + 1, dtype=np.int64)
    np.cumsum(np.bincount(users[order], minlength=n_users), out=offsets[1:])
    return offsets, items[order], nanoseconds[order] // 1_000_000_000


def _once(
    users: NDArray[np.int32], items: NDArray[np.int32], repeats: Literal["last", "first"]
) -> NDArray[np.bool_]:
    """Which events to keep, bool ``[n]``, so that each pair of user and item is there once."""
    pairs = users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    differs = pairs[1:] != pairs[:-1]
    end = np.ones(min(len(users), 1), dtype=bool)
    keep = np.zeros(len(users), dtype=bool)
    keep[order[np.concatenate([differs, end] if repeats == "last" else [end, differs])]] = True
    return keep
