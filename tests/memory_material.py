"""A small catalogue that channels are fitted to, and people who ask them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from tritonrec_client.contract import Sizes

from python_backend.features import FeatureEncoder, FeatureField
from python_backend.stages.retrieve import Retrieve
from tools.channels.channel import Channel, Material
from tools.channels.content import vectors_of
from tools.channels.registry import fit_channel
from tools.config.channels import ChannelConfig
from tools.data.interactions import Interactions
from tools.training.features import Features
from tools.training.retriever import Progress

N_ITEMS, N_USERS = 80, 60
UNMET = range(76, 81)
"""Items that nobody has met."""
WORDLESS = range(1, 4)
"""Items that have no text."""
SIZES = Sizes(candidates=20, results=5, history=6, seen=24, user_features=1)
WORDS = ("night", "river", "robot", "wedding", "war", "dog", "moon", "bank")


def events_of(
    *users: Sequence[int], n_items: int = N_ITEMS, timestamps: Sequence[int] | None = None
) -> Interactions:
    """Each user's items, oldest first; by default every event has a second of its own."""
    items = [item for user in users for item in user]
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64),
        items=np.array(items, dtype=np.int32),
        timestamps=np.array(range(len(items)) if timestamps is None else timestamps, dtype=np.int64),
        user_ids=np.arange(len(users), dtype=np.int64),
        item_ids=np.concatenate([[-1], 1000 + np.arange(n_items)]).astype(np.int64),
    )


def crowd(n_users: int = N_USERS, n_items: int = N_ITEMS, seed: int = 0) -> Interactions:
    """Users who each like one of four corners of the catalogue; the last items are never met."""
    random = np.random.default_rng(seed)
    met = n_items - len(UNMET)
    users = []
    for user in range(n_users):
        liked = np.where(np.arange(met) % 4 == user % 4, 5.0, 1.0) / np.arange(3, met + 3) ** 0.5
        length = int(random.integers(2, 16))
        users.append((random.choice(met, length, replace=False, p=liked / liked.sum()) + 1).tolist())
    return events_of(*users, n_items=n_items)


def material_of(interactions: Interactions, rows: Sequence[dict[str, Any]] | None = None) -> Material:
    """What channels are fitted to; items are called after two words, and described by `rows`."""
    n_items = interactions.n_items
    rows = list(rows) if rows is not None else [{"genre": [WORDS[i % 8]]} for i in range(n_items)]
    fields = [FeatureField("genre", "multi"), FeatureField("year", "numeric")]
    users = FeatureEncoder.fit([], [{}] * interactions.n_users, 1)
    items = FeatureEncoder.fit(fields, rows)
    features = Features(
        np.zeros((interactions.n_users, 1), np.int32),
        np.zeros((n_items + 1, 1), np.int32),
        users,
        items,
    )
    titles = [f"{WORDS[i % 8]} {WORDS[i // 8 % 8]} {i}" for i in range(n_items)]
    return Material(interactions, features, titles, SIZES.history, 1, {}, rows)


def section(model: str, **keys: Any) -> ChannelConfig:
    """The section of [[channels]] with these keys."""
    read: TypeAdapter[ChannelConfig] = TypeAdapter(ChannelConfig)
    return read.validate_python({"model": model, **keys})


def counted_words(texts: list[str], progress: Progress) -> NDArray[np.float32]:
    """An encoder for tests: which of `WORDS` are in a text, and how long it is."""
    return np.array([[text.count(word) for word in WORDS] + [len(text) / 50] for text in texts], np.float32)


def fitted(kind: str, interactions: Interactions | None = None) -> Channel:
    """A channel of one of `KINDS`, fitted to `interactions`, by default the crowd's."""
    interactions = crowd() if interactions is None else interactions
    if kind == "content":
        texts = material_of(interactions).titles
        return vectors_of(
            ["" if i + 1 in WORDLESS else text for i, text in enumerate(texts)], 8, counted_words
        )
    model, keys = KINDS[kind]
    return fit_channel(section(model, **keys), material_of(interactions))


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "item_knn": ("item_knn", {"neighbours": 10}),
    "item_knn of the history": ("item_knn", {"neighbours": 10, "neighbours_of": "history", "shrinkage": 0}),
    "ease": ("ease", {"regularisation": 20}),
    "ease, truncated": ("ease", {"regularisation": 20, "neighbours": 15, "whole_items": 0}),
    "user_knn": ("user_knn", {"neighbours": 8}),
    "content": ("content", {}),
    "popularity": ("popularity", {"half_life_days": 0.001}),
}
"""Every kind of channel that looks things up: model and keys."""


def opened(channel: Channel, folder: Path, sizes: Sizes = SIZES) -> Retrieve:
    """The stage that serves `channel` from the new `folder`."""
    folder.mkdir()
    channel.write(folder, sizes)
    return Retrieve.open(folder, candidates=sizes.candidates)


def asks(*seen: Sequence[int], sizes: Sizes = SIZES) -> dict[str, NDArray[np.int32]]:
    """One request per user who has seen these items, oldest first; the newest are the history."""
    inputs = {
        "user_features": np.zeros((len(seen), sizes.user_features), np.int32),
        "history": np.zeros((len(seen), sizes.history), np.int32),
        "seen": np.zeros((len(seen), sizes.seen), np.int32),
    }
    for row, items in enumerate(seen):
        newest = list(items)[-sizes.history :]
        inputs["history"][row, sizes.history - len(newest) :] = newest
        inputs["seen"][row, : len(items)] = items
    return inputs
