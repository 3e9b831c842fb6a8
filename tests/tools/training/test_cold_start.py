from __future__ import annotations

import numpy as np
import torch
from toy import HISTORY, features_of, rank_config, retrieve_config

from tools.training.cold_start import warm_up_items
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

ITEMS = 30


def model_whose_identities_follow_from_features() -> Retriever:
    """Genres decide the id embedding and the bias of every item."""
    torch.manual_seed(0)
    model = Retriever(retrieve_config(), features_of(3, ITEMS), HISTORY)
    with torch.no_grad():
        model.items.features.embedding.weight[1:].normal_()
        features = model.items.features(model.items.codes)
        model.items.identity.weight[1:] = (features @ torch.randn(8, 8))[1:] + 1
        model.bias[1:] = (features @ torch.randn(8))[1:] - 2
    return model


def masks(*cold: int) -> tuple[np.ndarray, np.ndarray]:
    """Which items are cold, and how often each was met: five times, or never."""
    is_cold = np.isin(np.arange(ITEMS + 1), cold)
    return is_cold, np.where(is_cold, 0, 5).astype(np.int64)


def test_an_item_gets_the_embedding_and_bias_that_its_features_suggest() -> None:
    model = model_whose_identities_follow_from_features()
    wanted, bias = model.items.identity.weight[7].clone(), float(model.bias[7].detach())
    with torch.no_grad():
        model.items.identity.weight[7] = 99
        model.bias[7] = -99

    warm_up_items(model, *masks(7))

    assert torch.allclose(model.items.identity.weight[7], wanted, atol=0.3)
    assert abs(float(model.bias[7].detach()) - bias) < 0.3


def test_items_with_events_and_padding_stay_as_they_are() -> None:
    model = model_whose_identities_follow_from_features()
    before = model.items.identity.weight.detach().clone()

    warm_up_items(model, *masks(0, 7))

    others = np.arange(ITEMS + 1) != 7
    assert torch.equal(model.items.identity.weight[others], before[others])


def test_an_item_is_taken_for_one_of_those_that_are_met_often() -> None:
    model = model_whose_identities_follow_from_features()
    with torch.no_grad():
        model.items.features.embedding.weight.zero_()  # features say nothing: what is left is the mean
        model.bias[1:] = torch.where(torch.arange(1, ITEMS + 1) <= 3, 5.0, -5.0)
    cold, popularity = masks(7)
    popularity[1:4] = 10_000

    warm_up_items(model, cold, popularity)

    assert float(model.bias[7].detach()) > 4


def test_the_ranker_has_no_bias_and_works_as_well() -> None:
    torch.manual_seed(0)
    model = Ranker(rank_config(), features_of(3, ITEMS), HISTORY)
    before = model.items.identity.weight[7].clone()

    warm_up_items(model, *masks(7))

    assert not torch.equal(model.items.identity.weight[7], before)
    assert torch.isfinite(model.items.identity.weight).all()


def test_without_anything_to_learn_from_nothing_changes() -> None:
    model = model_whose_identities_follow_from_features()
    before = model.items.identity.weight.detach().clone()

    warm_up_items(model, np.ones(ITEMS + 1, dtype=bool), np.zeros(ITEMS + 1, dtype=np.int64))
    warm_up_items(model, np.zeros(ITEMS + 1, dtype=bool), np.ones(ITEMS + 1, dtype=np.int64))

    assert torch.equal(model.items.identity.weight, before)
