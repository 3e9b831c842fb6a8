"""Made-up users whose next item can be known, and channels trained on them in a moment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from tritonrec_client.contract import Sizes

from python_backend.features import FeatureEncoder, FeatureField
from tools.channels.channel import Material
from tools.config.channels import ChannelConfig
from tools.data.interactions import Interactions
from tools.training.features import Features

HISTORY = 8
N_ITEMS = 24
START = 7
"""Where many walks begin."""
SIZES = Sizes(candidates=10, results=5, history=HISTORY, seen=N_ITEMS, session=2, user_features=2)


def section(model: str, **changes: object) -> ChannelConfig:
    """A section that trains in a moment."""
    small = {"width": 16, "batch": 16, "epochs": 25, "dropout": 0.1, "learning_rate": 1e-2}
    inner = {} if model == "mind" else {"hidden": 24}
    config: ChannelConfig = TypeAdapter(ChannelConfig).validate_python(
        {"model": model, **small, **inner, **changes}
    )
    return config


def material_of(users: Sequence[Sequence[int]], n_items: int = N_ITEMS, seed: int = 0) -> Material:
    """Users with these items, oldest first; they have countries, and the items have colours."""
    lengths, items = [len(user) for user in users], [item for user in users for item in user]
    interactions = Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array(items, np.int32),
        timestamps=np.arange(len(items), dtype=np.int64),
        user_ids=np.arange(len(users), dtype=np.int64),
        item_ids=np.concatenate([[-1], np.arange(n_items)]).astype(np.int64),
    )
    user_rows = [{"country": "de" if row % 3 else "fr"} for row in range(len(users))]
    item_rows = [{"colour": "red" if row % 2 else "blue"} for row in range(n_items)]
    of_users = FeatureEncoder.fit([FeatureField("country", "categorical")], user_rows, SIZES.user_features)
    of_items = FeatureEncoder.fit([FeatureField("colour", "categorical")], item_rows)
    codes = np.concatenate([np.zeros((1, 1), np.int32), of_items.encode(item_rows)])
    features = Features(of_users.encode(user_rows), codes, of_users, of_items)
    return Material(interactions, features, [str(item) for item in range(n_items)], HISTORY, seed, {})


def walks(count: int, seed: int, length: int = HISTORY + 1, *, at_start: float = 0.5) -> NDArray[np.int32]:
    """Users who all go through the same circle of items, int32 ``[count, length]``.

    A share `at_start` of them begins at START, the others anywhere.
    """
    circle = np.random.default_rng(0).permutation(N_ITEMS) + 1
    random = np.random.default_rng(seed)
    begin = random.integers(0, N_ITEMS, count)
    begin[random.random(count) < at_start] = np.flatnonzero(circle == START)
    return circle[(begin[:, None] + np.arange(length)) % N_ITEMS].astype(np.int32)


def two_tastes(count: int, seed: int, length: int = HISTORY) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Users who like two of four kinds of six items each, in no order: items ``[count, length]``, kinds.

    Items 1 … 6 are of kind 0, 7 … 12 of kind 1 and so on; half of each user's items are of either kind.
    """
    random = np.random.default_rng(seed)
    kinds = np.stack([random.permutation(4)[:2] for _ in range(count)])
    items = np.empty((count, length), np.int32)
    for row, (one, other) in enumerate(kinds):
        half = length // 2
        chosen = [6 * kind + random.permutation(6)[:half] + 1 for kind in (one, other)]
        items[row] = random.permutation(np.concatenate(chosen))
    return items, kinds
