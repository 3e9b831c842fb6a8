"""Histories that are not quite what a user did: what a robust model should not mind much."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Histories = NDArray[np.int32]
Random = np.random.Generator
Perturbation = Callable[[Histories, NDArray[np.int32], int, Random], Histories]
"""Histories ``[U, L]`` (right-aligned, 0 pads the front), each user's target ``[U]``, how many items there
are, and where chance comes from → histories ``[U, L]``."""

SHARE = 0.2


def replaced(histories: Histories, targets: NDArray[np.int32], n_items: int, random: Random) -> Histories:
    """A fifth of the items, drawn at random, become random others, never the target."""
    chosen = (random.random(histories.shape) < SHARE) & (histories != 0)
    return np.where(chosen, _others(histories.shape, targets, n_items, random), histories)


def dropped(histories: Histories, targets: NDArray[np.int32], n_items: int, random: Random) -> Histories:
    """A fifth of the items, drawn at random, are missing; the others close up."""
    kept = np.where(random.random(histories.shape) < SHARE, np.int32(0), histories)
    order = np.argsort(kept != 0, axis=1, kind="stable")
    return np.take_along_axis(kept, order, axis=1)


def shuffled(histories: Histories, targets: NDArray[np.int32], n_items: int, random: Random) -> Histories:
    """The same items in any order."""
    keys = np.where(histories != 0, random.random(histories.shape), -1.0)
    return np.take_along_axis(histories, np.argsort(keys, axis=1, kind="stable"), axis=1)


def newest_replaced(
    histories: Histories, targets: NDArray[np.int32], n_items: int, random: Random
) -> Histories:
    """The newest item becomes a random other one, never the target."""
    found = histories.copy()
    others = _others((len(histories), 1), targets, n_items, random)[:, 0]
    found[:, -1] = np.where(histories[:, -1] != 0, others, 0)
    return found


def _others(shape: tuple[int, ...], targets: NDArray[np.int32], n_items: int, random: Random) -> Histories:
    """Random items, each with the same probability, but the row's target."""
    drawn = random.integers(1, max(n_items, 2), shape, dtype=np.int32)
    return np.where((targets[:, None] > 0) & (drawn >= targets[:, None]), drawn + np.int32(1), drawn)


PERTURBATIONS: dict[str, Perturbation] = {
    "a fifth replaced": replaced,
    "a fifth dropped": dropped,
    "order shuffled": shuffled,
    "newest replaced": newest_replaced,
}
