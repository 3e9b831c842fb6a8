from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from toy import HISTORY, features_of, rank_config, retrieve_config
from toy import random_interactions as walks
from tritonrec_client.contract import Sizes

from python_backend.release import Release
from tools.config.build import BuildConfig
from tools.data.interactions import Interactions
from tools.training.checkpoint import Checkpoint
from tools.training.features import Features
from tools.training.models import Models
from tools.training.ranker import Ranker
from tools.training.refresh import refresh_models
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import HeldOut, Progress, Retriever, target_ranks

USERS, ITEMS = 60, 24


def config_of(**refresh: float) -> BuildConfig:
    return BuildConfig.model_validate(
        {
            "name": "toy",
            "data": {"events": {"path": "x.csv", "user": "u", "item": "i", "timestamp": "t"}},
            "contract": {"candidates": 10, "results": 5, "history": HISTORY},
            "refresh": refresh,
        }
    ).model_copy(update={"retrieve": retrieve_config(), "rank": rank_config(neighbours=8)})


@contextmanager
def silently(name: str) -> Iterator[Progress]:
    yield lambda done, total, text: None


@pytest.fixture(scope="module")
def features() -> Features:
    return features_of(USERS, ITEMS)


@pytest.fixture(scope="module")
def checkpoint(features: Features) -> Checkpoint:
    older = walks(USERS, ITEMS).without_last(3)
    retriever, _ = train_retriever(older, features, retrieve_config(epochs=8), history=HISTORY, seed=0)
    ranker = Ranker(rank_config(neighbours=8), features, HISTORY)
    weights = [
        {name: weight.numpy().copy() for name, weight in model.state_dict().items()}
        for model in (retriever, ranker)
    ]
    return Checkpoint(Release("0" * 12, Sizes(), None), older.item_ids, *weights)  # type: ignore[arg-type]


def refreshed(
    checkpoint: Checkpoint, features: Features, interactions: Interactions, gained: int, **settings: float
) -> Models:
    everyone = np.full(interactions.n_users, gained, dtype=np.int64)
    return refresh_models(config_of(**settings), checkpoint, interactions, everyone, features, silently)


def test_what_is_new_is_learned(checkpoint: Checkpoint, features: Features) -> None:
    interactions = walks(USERS, ITEMS).without_last(1)
    asked = HeldOut(interactions.without_last(1), interactions.last(1))
    before = Retriever(retrieve_config(), features, HISTORY)
    checkpoint.load_retriever(before, interactions.item_ids)

    models = refreshed(checkpoint, features, interactions, 2, epochs=20, learning_rate=0.01)

    ranks = [target_ranks(model, asked, features, HISTORY).mean() for model in (before, models.retriever)]
    assert ranks[1] < 0.8 * ranks[0]


def test_where_nothing_is_new_the_models_stay_as_they_were(
    checkpoint: Checkpoint, features: Features
) -> None:
    models = refreshed(checkpoint, features, walks(USERS, ITEMS).without_last(3), 0)

    for model, weights in ((models.retriever, checkpoint.retriever), (models.ranker, checkpoint.ranker)):
        for name, weight in model.state_dict().items():
            assert np.array_equal(weight.numpy(), weights[name]), name
    assert not models.retriever.training
    assert not models.ranker.training


def test_an_item_that_the_checkpoint_lacks_starts_with_what_its_features_suggest(
    checkpoint: Checkpoint, features: Features
) -> None:
    interactions = walks(USERS, ITEMS).without_last(3)
    lacking = Checkpoint(
        checkpoint.release,
        np.delete(checkpoint.item_ids, ITEMS),
        *(
            {name: weight[:ITEMS] if len(weight) == ITEMS + 1 else weight for name, weight in weights.items()}
            for weights in (checkpoint.retriever, checkpoint.ranker)
        ),
    )

    models = refreshed(lacking, features, interactions, 0)

    for model, weights in ((models.retriever, checkpoint.retriever), (models.ranker, checkpoint.ranker)):
        identity = model.items.identity.weight.detach().numpy()
        assert np.array_equal(identity[:ITEMS], weights["items.identity.weight"][:ITEMS])
        # Within what its fellow items have: an untrained embedding would be of another size.
        assert np.linalg.norm(identity[ITEMS]) <= np.linalg.norm(identity[1:ITEMS], axis=1).max()
        assert torch.isfinite(model.items.identity.weight).all()


def test_the_same_seed_gives_the_same_models(checkpoint: Checkpoint, features: Features) -> None:
    interactions = walks(USERS, ITEMS).without_last(1)
    first, second = (refreshed(checkpoint, features, interactions, 2) for _ in range(2))
    for name, weight in first.retriever.state_dict().items():
        assert torch.equal(weight, second.retriever.state_dict()[name]), name


def test_the_evidence_rests_on_every_event(checkpoint: Checkpoint, features: Features) -> None:
    few, all_but_one = walks(USERS, ITEMS).without_last(3), walks(USERS, ITEMS).without_last(1)
    older = refreshed(checkpoint, features, few, 0).ranker.evidence
    newer = refreshed(checkpoint, features, all_but_one, 2).ranker.evidence
    assert not torch.equal(older.weights, newer.weights)
