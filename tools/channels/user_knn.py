"""UserKNN: what the users with the most similar items met besides (Resnick et al. 1994)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tritonrec_client.contract import Sizes

from python_backend.channels.rows import Rows
from python_backend.channels.user_neighbours import ITEMS_OF_USERS, SETTINGS, USERS_OF_ITEMS
from tools.channels.channel import Material
from tools.channels.lookup_files import Floats, Items, prove, write_kind
from tools.config.memory_channels import UserKnnChannel
from tools.training.retriever import Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class UserItems:
    """Who met what, binary float32 ``[stored users, I + 1]``, and how votes are counted."""

    items: csr_matrix
    neighbours: int
    power: float

    def write(self, folder: Path, sizes: Sizes) -> None:
        """Write what `UserNeighbours` serves, and prove it. Raises GraphMismatch, and CheckFailed where
        numba is not installed.
        """
        _members(self.items).write(folder / ITEMS_OF_USERS)
        _members(self.items.T.tocsr()).write(folder / USERS_OF_ITEMS)
        settings = {"neighbours": self.neighbours, "power": self.power}
        (folder / SETTINGS).write_text(json.dumps(settings) + "\n", encoding="utf-8")
        write_kind(folder, "user_neighbours")
        prove(folder, sizes, self.items.shape[1] - 1, self._score)

    def _score(self, history: Items, own: Items) -> Floats:
        common = np.asarray(self.items[:, own].sum(axis=1), np.float32).ravel()
        lengths = np.diff(self.items.indptr).astype(np.float32)
        # In the precision of the served one: which of two like neighbours is the last depends on it.
        cosine = common / np.sqrt(np.maximum(lengths * np.float32(len(own)), 1))
        cosine[common == lengths] = 0
        nearest = np.argsort(-cosine, kind="stable")[: self.neighbours]
        totals = np.asarray(cosine[nearest] ** self.power @ self.items[nearest], np.float32).ravel()
        return np.where(totals == 0, np.float32(np.nan), totals)


def fit(
    config: UserKnnChannel, material: Material, progress: Progress = lambda done, total, text: None
) -> UserItems:
    """The items of the ``config.users`` users who did something last; of equal ones the earlier rows'."""
    interactions = material.interactions
    active = np.flatnonzero(interactions.lengths)
    last = interactions.timestamps[interactions.offsets[active + 1] - 1]
    stored = np.sort(active[np.argsort(-last, kind="stable")[: config.users]])
    return UserItems(interactions.to_csr()[stored], config.neighbours, config.power)


def _members(matrix: csr_matrix) -> Rows:
    """Which columns each row of a binary `matrix` has."""
    matrix.sort_indices()
    return Rows(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), np.zeros(0, np.float32))
