from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toy import HISTORY, features_of, interactions_of, random_interactions, retrieve_config

from tools.data.interactions import Interactions
from tools.training.features import Features
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import (
    HeldOut,
    Retriever,
    full_softmax,
    sampled_softmax,
    target_ranks,
)
from tools.training.windows import cut_windows

N_USERS, N_ITEMS = 24, 30


@pytest.fixture(scope="module")
def events() -> Interactions:
    return random_interactions(N_USERS, N_ITEMS)


@pytest.fixture(scope="module")
def features() -> Features:
    return features_of(N_USERS, N_ITEMS)


@pytest.fixture
def model(features: Features) -> Retriever:
    """Untrained, but with logits that differ clearly."""
    torch.manual_seed(0)
    model = Retriever(retrieve_config(), features, HISTORY)
    with torch.no_grad():
        for parameter in (model.items.identity.weight, model.bias):
            parameter.add_(torch.randn_like(parameter) * 0.5)
        model.items.identity.weight[0] = 0
    return model


def batch(events: Interactions, features: Features) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    windows = cut_windows(events, HISTORY)
    users = torch.from_numpy(features.users[windows.users])
    return users, torch.from_numpy(windows.histories), torch.from_numpy(windows.targets)


def gradient(model: Retriever, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


# Losses.


def test_full_softmax_is_the_mean_surprise_at_the_next_item(
    model: Retriever, events: Interactions, features: Features
) -> None:
    users, histories, targets = batch(events, features)
    loss = full_softmax(model, users, histories, targets, np.random.default_rng(0))
    with torch.no_grad():
        vectors = model.items()
        logits = model.tower(users, histories, vectors[histories.long()]) @ vectors.T + model.bias
        logits[..., 0] = -math.inf  # padding is nobody's next item
        surprise = -logits.log_softmax(-1).gather(-1, targets.long()[..., None]).squeeze(-1)
    assert float(loss.detach()) == pytest.approx(float(surprise[targets > 0].mean()), rel=1e-5)


def test_sampled_softmax_approaches_full_softmax_and_its_gradient_as_negatives_grow(
    model: Retriever, events: Interactions, features: Features
) -> None:
    inputs = batch(events, features)
    full = full_softmax(model, *inputs, np.random.default_rng(0))
    full_value, full_gradient = float(full.detach()), gradient(model, full)
    far, turned = [], []
    for negatives in (20, 500, 20_000):
        loss_of = sampled_softmax(events.popularity(), negatives)
        values, gradients = [], []
        for seed in range(10):
            loss = loss_of(model, *inputs, np.random.default_rng(seed))
            values.append(float(loss.detach()))
            gradients.append(gradient(model, loss))
        far.append(float(np.mean(np.abs(np.array(values) - full_value))))
        differences = [float((one - full_gradient).norm() / full_gradient.norm()) for one in gradients]
        turned.append(float(np.mean(differences)))
    assert far == sorted(far, reverse=True)
    assert turned == sorted(turned, reverse=True)
    assert far[-1] < 0.01
    assert turned[-1] < 0.05


def test_popular_negatives_are_not_punished_for_being_drawn_more_often(model: Retriever) -> None:
    """The correction takes out how uneven the draw is: the same loss, whatever the popularity says."""
    events = interactions_of([1, 2, 3], n_items=N_ITEMS)
    inputs = batch(events, features_of(1, N_ITEMS))
    uneven = np.zeros(N_ITEMS + 1, dtype=np.int64)
    uneven[7] = 1000
    losses = [
        float(sampled_softmax(popularity, 50_000)(model, *inputs, np.random.default_rng(0)).detach())
        for popularity in (uneven, np.ones_like(uneven), np.zeros_like(uneven))
    ]
    assert losses[1:] == pytest.approx([losses[0]] * 2, abs=0.02)


def test_a_target_is_never_its_own_negative() -> None:
    """Of one item alone, every negative would be the target: nothing is left to tell it from."""
    torch.manual_seed(0)
    model = Retriever(retrieve_config(), features_of(1, 1), HISTORY)
    inputs = batch(interactions_of([1], n_items=1), features_of(1, 1))
    loss = sampled_softmax(np.array([0, 1]), 16)(model, *inputs, np.random.default_rng(0))
    assert float(loss.detach()) == 0
    assert not gradient(model, loss).any()


def test_places_without_a_target_do_not_count(
    model: Retriever, events: Interactions, features: Features
) -> None:
    users, histories, targets = batch(events, features)
    one = torch.zeros_like(targets)
    one[3, -1] = targets[3, -1]
    for loss_of in (full_softmax, sampled_softmax(events.popularity(), 64)):
        alone = loss_of(model, users[3:4], histories[3:4], one[3:4], np.random.default_rng(0))
        among = loss_of(model, users, histories, one, np.random.default_rng(0))
        assert float(alone.detach()) == pytest.approx(float(among.detach()), rel=1e-4)


# Ranks.


def test_a_targets_rank_counts_the_unseen_items_above_it(
    model: Retriever, events: Interactions, features: Features
) -> None:
    held_out = HeldOut(events.without_last(1), np.where(np.arange(N_USERS) % 3, events.last(1), 0))
    found = target_ranks(model, held_out, features, HISTORY, batch=5)
    expected = []
    for user in np.flatnonzero(held_out.targets):
        seen = held_out.histories.user(user)
        items = torch.zeros(1, HISTORY, dtype=torch.long)
        items[0, HISTORY - len(seen[-HISTORY:]) :] = torch.from_numpy(seen[-HISTORY:]).long()
        with torch.no_grad():
            vectors = model.items()
            query = model.tower(torch.from_numpy(features.users[[user]]), items, vectors[items])[0, -1]
            logits = query @ vectors.T + model.bias
        unseen = [item for item in range(1, N_ITEMS + 1) if item not in seen]
        expected.append(sum(float(logits[i]) > float(logits[held_out.targets[user]]) for i in unseen))
    assert found.tolist() == expected


def test_nobody_asked_is_nobody_ranked(model: Retriever, events: Interactions, features: Features) -> None:
    nobody = HeldOut(events, np.zeros(N_USERS, dtype=np.int32))
    assert target_ranks(model, nobody, features, HISTORY).tolist() == []


# Training.


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_the_same_seed_trains_to_the_same_weights_and_another_does_not(
    events: Interactions, features: Features, loss: str
) -> None:
    config = retrieve_config(loss=loss, negatives=16, dropout=0.1)
    first, again, other = (
        train_retriever(events, features, config, history=HISTORY, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(weights(first[0]), weights(again[0]))
    assert first[1] == again[1]
    assert not torch.equal(weights(first[0]), weights(other[0]))


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_training_learns_what_comes_next(features: Features, loss: str) -> None:
    """Everybody walks round the catalogue item by item; the held-out step is then easy to tell."""
    walks = [[(start + step) % N_ITEMS + 1 for step in range(8)] for start in range(N_USERS)]
    events = interactions_of(*walks, n_items=N_ITEMS)
    config = retrieve_config(loss=loss, width=16, negatives=64, epochs=40, learning_rate=0.02)
    seen: list[tuple[int, int]] = []
    model, curve = train_retriever(
        events.without_last(1),
        features,
        config,
        history=HISTORY,
        seed=1,
        validation=HeldOut(events.without_last(1), events.last(1)),
        progress=lambda done, total, text: seen.append((done, total)),
    )
    assert curve[-1]["loss"] < 0.6 * curve[0]["loss"]
    assert curve[-1]["validation_ndcg_10"] > 0.6
    assert curve[-1]["validation_recall_500"] == 1
    assert [row["epoch"] for row in curve if "validation_ndcg_10" in row] == list(range(5, 41, 5))
    assert seen == [(epoch, 40) for epoch in range(1, 41)]
    assert not model.training


def test_padding_learns_nothing(events: Interactions, features: Features) -> None:
    model, _ = train_retriever(events, features, retrieve_config(), history=HISTORY, seed=1)
    assert not model.items()[0].any()


def test_auto_takes_the_whole_catalogue_while_it_is_small(events: Interactions, features: Features) -> None:
    def trained(**changes: object) -> torch.Tensor:
        config = retrieve_config(epochs=1, negatives=16, **changes)
        return weights(train_retriever(events, features, config, history=HISTORY, seed=1)[0])

    full, sampled = trained(loss="full"), trained(loss="sampled")
    assert not torch.equal(full, sampled)
    assert torch.equal(trained(loss="auto", full_softmax_items=N_ITEMS), full)
    assert torch.equal(trained(loss="auto", full_softmax_items=N_ITEMS - 1), sampled)


def test_users_whose_features_are_hidden_train_the_unknown_user(
    events: Interactions, features: Features
) -> None:
    """With everybody hidden, vectors of ages and countries only decay from where they started."""
    torch.manual_seed(1)
    start = Retriever(retrieve_config(), features, HISTORY).tower.user_embedding.embedding.weight[1:].detach()
    for hidden in (1.0, 0.0):
        config = retrieve_config(feature_dropout=hidden)
        model, _ = train_retriever(events, features, config, history=HISTORY, seed=1)
        ratio = model.tower.user_embedding.embedding.weight[1:].detach() / start
        assert torch.allclose(ratio, ratio[0, 0]) == bool(hidden)
