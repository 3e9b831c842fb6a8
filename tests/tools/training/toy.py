"""Small data sets and configurations to train on in a moment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from python_backend.features import FeatureEncoder, FeatureField
from tools.config.training import RankConfig, RetrieveConfig
from tools.data.interactions import Interactions
from tools.training.features import Features

HISTORY = 8
GENRES = ("a", "b", "c", "d")


def interactions_of(
    *users: Sequence[int], n_items: int, timestamps: Sequence[int] | None = None
) -> Interactions:
    """Each user's items, oldest first; by default every event has a second of its own."""
    lengths = [len(items) for items in users]
    items = [item for user in users for item in user]
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array(items, dtype=np.int32),
        timestamps=np.array(range(len(items)) if timestamps is None else timestamps, dtype=np.int64),
        user_ids=np.arange(1000, 1000 + len(users), dtype=np.int64),
        item_ids=np.concatenate([[-1], np.arange(n_items)]).astype(np.int64),
    )


def random_interactions(n_users: int, n_items: int, *, seed: int = 0, longest: int = 12) -> Interactions:
    """Users who each walk through the catalogue in steps of one or two, from anywhere."""
    random = np.random.default_rng(seed)
    users = []
    for _ in range(n_users):
        steps = random.integers(1, 3, random.integers(4, longest + 1))
        users.append(((random.integers(n_items) + np.cumsum(steps)) % n_items + 1).tolist())
    return interactions_of(*users, n_items=n_items)


def features_of(n_users: int, n_items: int, *, described: bool = True) -> Features:
    """Ages of users, and genres (one to three) and titles of items; or nothing about anybody."""
    user_fields = [FeatureField("age", "numeric", buckets=3), FeatureField("country", "categorical")]
    item_fields = [FeatureField("genre", "multi"), FeatureField("year", "numeric", buckets=4)]
    if not described:
        user_fields, item_fields = [], []
    user_rows = [{"age": float(row % 7), "country": "de" if row % 3 else "fr"} for row in range(n_users)]
    item_rows = [{"genre": list(GENRES[: 1 + row % 3]), "year": float(row % 5)} for row in range(n_items)]
    users = FeatureEncoder.fit(user_fields, user_rows, 2)
    items = FeatureEncoder.fit(item_fields, item_rows)
    codes = items.encode(item_rows)
    padded = np.zeros((n_items + 1, max(codes.shape[1], 1)), np.int32)
    padded[1:, : codes.shape[1]] = codes
    return Features(users.encode(user_rows), padded, users, items)


def retrieve_config(**changes: object) -> RetrieveConfig:
    small = {"width": 8, "blocks": 1, "heads": 2, "epochs": 2, "batch": 8, "dropout": 0.0}
    return RetrieveConfig.model_validate({**small, **changes})


def rank_config(**changes: object) -> RankConfig:
    small = {"width": 8, "heads": 2, "crosses": 1, "hidden": 8, "epochs": 2, "batch": 8, "dropout": 0.0}
    return RankConfig.model_validate({**small, **changes})
