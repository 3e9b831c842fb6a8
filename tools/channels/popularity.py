"""Popularity with a half-life: an event counts half as much as one that is so many days newer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tritonrec_client.contract import Sizes

from python_backend.channels.popularity import ORDER, SCORES
from python_backend.item_index import PADDING_SCORE
from tools.channels.channel import Material
from tools.channels.lookup_files import Floats, Items, prove, write_kind
from tools.config.memory_channels import PopularityChannel
from tools.training.retriever import Progress

SECONDS_PER_DAY = 86_400
LEAST = PADDING_SCORE / 2
"""No item that anybody has met scores less, however long ago that was."""


@dataclass(frozen=True)
class LogShares:
    """The logarithm of each item's share of all events, float32 ``[I + 1]``; NaN for items without any."""

    scores: Floats

    def write(self, folder: Path, sizes: Sizes) -> None:
        """Write what `Popularity` serves, and prove it. Raises GraphMismatch."""
        met = np.flatnonzero(~np.isnan(self.scores))
        order = met[np.argsort(-self.scores[met], kind="stable")]
        np.save(folder / ORDER, order.astype(np.int32))
        np.save(folder / SCORES, self.scores[order])
        write_kind(folder, "popularity")
        prove(folder, sizes, len(self.scores) - 1, self._score)

    def _score(self, history: Items, own: Items) -> Floats:
        return self.scores


def fit(
    config: PopularityChannel, material: Material, progress: Progress = lambda done, total, text: None
) -> LogShares:
    """Shares of events that count ``2 ** -(age ÷ half-life)``, where the newest event has age 0."""
    interactions = material.interactions
    scores = np.full(interactions.n_items + 1, np.nan)
    if interactions.n_events:
        # In logarithms: after a thousand half-lives the counts themselves would all be 0.
        age = (interactions.timestamps.max() - interactions.timestamps) / SECONDS_PER_DAY
        logarithm = -age / config.half_life_days * np.log(2)
        newest = np.full(len(scores), -np.inf)
        np.maximum.at(newest, interactions.items, logarithm)
        relative = np.exp(logarithm - newest[interactions.items])
        met = np.flatnonzero(newest > -np.inf)
        counted = np.bincount(interactions.items, relative, len(scores))[met]
        scores[met] = newest[met] + np.log(counted)
        scores[met] -= np.logaddexp.reduce(scores[met])
        scores[met] = np.maximum(scores[met], LEAST)
    return LogShares(scores.astype(np.float32))
