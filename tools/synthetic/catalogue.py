"""A made-up shop of any size, and models of the real form that have learned nothing from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tools.config.build import BuildConfig
from tools.config.compression import StudentConfig
from tools.data.dataset import Dataset
from tools.data.interactions import Interactions
from tools.data.table import RawFeatures
from tools.synthetic.histories import draw_histories, groups_of
from tools.synthetic.vectors import clustered_vectors
from tools.training.features import Features
from tools.training.models import Models
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

NOWHERE = "SYNTHETIC"
"""What stands in the configuration where other builds name their files."""
SHELVES, PRICES, COUNTRIES, AGES = 40, 10, 20, 8
BIAS = 0.07
"""How much items' biases differ: their standard deviation in a release of MovieLens-100K."""


def synthetic_config(n_items: int, seed: int, output: Path) -> BuildConfig:
    """The configuration of a made-up build in the folder `output`, as shipped but for the data.

    The ranker has the form of a distilled one, which is what is served by default. Its evidence is left
    out at every size: catalogues above 20,000 items never have it, and what grows is then the catalogue
    alone. Raises ValueError (pydantic's) where `n_items` is too small.
    """

    def feature(column: str, kind: str) -> dict[str, str]:
        return {"column": column, "kind": kind}

    source = {"path": NOWHERE, "format": "parquet"}
    student = StudentConfig.model_validate({})
    return BuildConfig.model_validate(
        {
            "name": f"synthetic-{n_items}",
            "seed": seed,
            "output": output,
            "data": {
                "events": {**source, "user": "user", "item": "item", "timestamp": "timestamp"},
                "items": {
                    **source,
                    "id": "item",
                    "features": [feature("shelf", "categorical"), feature("price", "numeric")],
                },
                "users": {
                    **source,
                    "id": "user",
                    "features": [feature("country", "categorical"), feature("age", "numeric")],
                },
            },
            "contract": {"history": 50, "user_features": 2, "candidates": min(500, n_items)},
            "store": {"url": f"lmdb://{output / 'store'}"},
            "rank": {"neighbours": 0, **student.form},
        }
    )


def synthetic_vectors(n_items: int, config: BuildConfig) -> NDArray[np.float32]:
    """The items' vectors, float32 ``[I, d]``, as wide as the retriever's of `config`."""
    return clustered_vectors(n_items, config.retrieve.width, config.seed)


def synthetic_dataset(vectors: NDArray[np.float32], n_users: int, seed: int) -> Dataset:
    """`n_users` users of a shop whose items are `vectors`, float32 ``[I, d]``; nobody's features matter."""
    groups = groups_of(vectors, seed)
    interactions = draw_histories(groups, n_users, seed)
    random = np.random.default_rng([seed, 3])
    # Those who have the same features share them: a million dictionaries would take longer than all else.
    shelves: list[list[RawFeatures]] = [
        [{"shelf": f"shelf {shelf}", "price": float(price)} for price in range(PRICES)]
        for shelf in range(SHELVES)
    ]
    people: list[list[RawFeatures]] = [
        [{"country": f"country {country}", "age": 18.0 + 8 * age} for age in range(AGES)]
        for country in range(COUNTRIES)
    ]
    prices = random.integers(0, PRICES, len(vectors))
    countries, ages = random.integers(0, COUNTRIES, n_users), random.integers(0, AGES, n_users)
    item_keys = [str(item) for item in range(1, len(vectors) + 1)]
    times = interactions.timestamps
    return Dataset(
        interactions=interactions,
        item_keys=item_keys,
        item_titles=[f"synthetic item {key}" for key in item_keys],
        item_features=[
            shelves[shelf][price]
            for shelf, price in zip((groups % SHELVES).tolist(), prices.tolist(), strict=True)
        ],
        user_keys=[str(user) for user in range(1, n_users + 1)],
        user_features=[
            people[country][age] for country, age in zip(countries.tolist(), ages.tolist(), strict=True)
        ],
        item_id_kind="integer",
        user_id_kind="integer",
        data_range=(int(times.min()), int(times.max())),
        events_read=interactions.n_events,
        events_kept=interactions.n_events,
        notes=(),
    )


def sample_of(dataset: Dataset, count: int) -> tuple[Dataset, NDArray[np.int64]]:
    """`dataset` with at most `count` of its users, evenly spread, and their rows in the whole."""
    known = dataset.interactions
    rows = np.unique(np.linspace(0, known.n_users - 1, min(count, known.n_users)).astype(np.int64))
    events = np.concatenate([np.arange(known.offsets[row], known.offsets[row + 1]) for row in rows])
    interactions = Interactions(
        np.concatenate([[0], np.cumsum(known.lengths[rows])]).astype(np.int64),
        known.items[events],
        known.timestamps[events],
        known.user_ids[rows],
        known.item_ids,
    )
    sample = replace(
        dataset,
        interactions=interactions,
        user_keys=[dataset.user_keys[row] for row in rows],
        user_features=[dataset.user_features[row] for row in rows],
    )
    return sample, rows


def untrained_models(
    config: BuildConfig, features: Features, vectors: NDArray[np.float32], popularity: NDArray[np.int64]
) -> Models:
    """Both models with weights drawn from the configuration's seed; items of one cluster are alike.

    `vectors` float32 ``[I, d]`` become the retriever's, and popular items (`popularity` int64 ``[I + 1]``)
    have the greater biases, as after training. The ranker keeps the order of retrieval, as untrained ones do.
    """
    torch.manual_seed(config.seed)
    retriever = Retriever(config.retrieve, features, config.sizes.history)
    ranker = Ranker(config.rank, features, config.sizes.history)
    counts = np.log1p(popularity[1:]).astype(np.float32)
    with torch.no_grad():
        retriever.items.identity.weight[1:] = torch.from_numpy(vectors)
        retriever.bias[1:] = torch.from_numpy(BIAS * (counts - counts.mean()) / max(counts.std(), 1e-6))
    return Models(retriever.eval(), ranker.eval(), {})
