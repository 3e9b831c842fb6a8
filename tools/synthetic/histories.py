"""Made-up histories: users with a few tastes, items popular by Zipf's law; for tests of scale only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tools.data.interactions import Interactions

GROUPS = 256
LEAST_ITEMS = 20
"""A group of items has about so many at the least."""
TASTES = (0.6, 0.3, 0.1)
"""How a user's events are shared out among the groups of items that the user likes."""
MEDIAN_EVENTS, SPREAD, MOST_EVENTS = 20, 0.9, 500
"""Users' activity is log-normal. An item that is drawn again does not count, so histories are shorter."""
YEAR_2020 = 1_577_836_800
CHUNK = 1 << 16


def groups_of(vectors: NDArray[np.float32], seed: int) -> NDArray[np.int32]:
    """Which group each item belongs to, int32 ``[n]``: that of the nearest among a few items drawn at random.

    `vectors` is float32 ``[n, d]``.
    """
    random = np.random.default_rng([seed, 1])
    count = min(GROUPS, max(1, len(vectors) // LEAST_ITEMS))
    centres = vectors[random.permutation(len(vectors))[:count]]
    half_lengths = (centres**2).sum(axis=1) / 2
    groups = np.empty(len(vectors), dtype=np.int32)
    for begin in range(0, len(vectors), CHUNK):
        chunk = vectors[begin : begin + CHUNK]
        groups[begin : begin + CHUNK] = (chunk @ centres.T - half_lengths).argmax(axis=1)
    return groups


def draw_histories(groups: NDArray[np.int32], n_users: int, seed: int) -> Interactions:
    """The events of `n_users` users, whose ids are 1 … U, with items whose ids are 1 … I.

    `groups` int32 ``[I]`` says which items are alike. Each user likes up to three groups; a group is liked
    by as many users as it has items, and within it the item of rank r is met in proportion to 1/r. The
    same arguments give the same events.
    """
    random = np.random.default_rng([seed, 2])
    # A random order within each group, so that an id says nothing about popularity.
    order = random.permutation(len(groups)).astype(np.int32)
    order = order[np.argsort(groups[order], kind="stable")]
    size = np.bincount(groups)
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    items, times, lengths = [], [], []
    for begin in range(0, n_users, CHUNK):
        count = min(CHUNK, n_users - begin)
        tastes = groups[random.integers(0, len(groups), (count, len(TASTES)))]
        events = random.lognormal(np.log(MEDIAN_EVENTS), SPREAD, count)
        users = np.repeat(np.arange(count), np.clip(events, 1, MOST_EVENTS).astype(np.int64))
        taste = np.searchsorted(np.cumsum(TASTES)[:-1], random.random(len(users)), side="right")
        group = tastes[users, taste]
        # Log-uniform ranks: P(r) = log((r + 1) / r) / log(n + 1), which is Zipf's law with exponent 1.
        rank = ((size[group] + 1) ** random.random(len(users))).astype(np.int64)
        item = order[start[group] + np.minimum(rank, size[group]) - 1] + 1
        _, first = np.unique(users * (len(groups) + 1) + item, return_index=True)
        first.sort()
        users, item = users[first], item[first]
        length = np.bincount(users, minlength=count)
        place = np.arange(len(users)) - np.repeat(np.cumsum(length) - length, length)
        since = YEAR_2020 + random.integers(0, 365 * 24 * 3600, count)
        pause = random.integers(60, 2 * 24 * 3600, count)
        items.append(item.astype(np.int32))
        times.append(since[users] + pause[users] * place)
        lengths.append(length)
    return Interactions(
        np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64),
        np.concatenate(items),
        np.concatenate(times),
        np.arange(1, n_users + 1),
        np.concatenate([[-1], np.arange(1, len(groups) + 1)]),
    )
