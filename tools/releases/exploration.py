"""What exploration draws by, written when a release is built: how popular items are, and their posteriors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_backend.exploration import ARRAYS, SETTINGS
from tools.config.training import ExplorationConfig
from tools.data.impressions import Shown
from tools.data.interactions import Interactions

SMOOTHING = 0.75
"""The power of popularity that negatives are drawn with since word2vec (Mikolov et al. 2013)."""

LARGEST_SHARE = 0.95
"""Of the users: an item that everybody has met must not look certain."""


def write_exploration(
    artifacts: Path, config: ExplorationConfig, interactions: Interactions, shown: Shown | None
) -> None:
    """Write ``exploration.json`` and ``exploration.npz``, or nothing where `config` draws no place."""
    if not config.places:
        return
    popularity = interactions.popularity()
    shown = shown or Shown(np.zeros_like(popularity), np.zeros_like(popularity))
    alpha, beta = posteriors(config.prior_views, popularity, int((interactions.lengths > 0).sum()), shown)
    weight = draw_weights(config, popularity)
    np.savez(artifacts / ARRAYS, weight=weight, alpha=alpha, beta=beta)
    settings = config.model_dump(include={"places", "method", "epsilon", "pool"})
    (artifacts / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def draw_weights(config: ExplorationConfig, popularity: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each item is drawn in proportion to, float64 ``[I + 1]``; `popularity` counts its events."""
    power = {"inverse": -1.0, "smoothed": SMOOTHING, "uniform": 0.0}[config.draw]
    return np.asarray((1.0 + popularity) ** power, dtype=np.float64)


def posteriors(
    prior_views: float, popularity: NDArray[np.int64], n_users: int, shown: Shown
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Alpha and beta of each item's Beta posterior of its click rate, float64 ``[I + 1]``.

    The prior is worth `prior_views`. Its mean is the click rate of everything that was shown; before anything
    was, it is the share of the `n_users` that have met the item, who `popularity` ``[I + 1]`` counts.
    """
    viewed, clicked = shown.viewed.astype(np.float64), shown.clicked.astype(np.float64)
    if viewed.sum():
        mean = np.full(len(viewed), (clicked.sum() + 1) / (viewed.sum() + 2))
    else:
        mean = np.minimum((popularity + 0.5) / (n_users + 1), LARGEST_SHARE)
    return prior_views * mean + clicked, prior_views * (1 - mean) + viewed - clicked
