"""Training that makes the retriever robust: what each key does, and that zeros do nothing at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from pydantic import ValidationError
from torch import Tensor
from toy import HISTORY, features_of, interactions_of, random_interactions, retrieve_config

from tools.config.training import RetrieveConfig, RobustConfig
from tools.training.lesson import Lesson
from tools.training.retrieve_training import Trainer, train_retriever
from tools.training.retriever import Loss, Retriever, full_softmax, sampled_softmax
from tools.training.robust import Robust

N_USERS, N_ITEMS = 24, 20
EVENTS = random_interactions(N_USERS, N_ITEMS)
FEATURES = features_of(N_USERS, N_ITEMS)
ADVERSARY = {"adversarial_epsilon": 0.1, "adversarial_weight": 1.0}
LOSSES = [full_softmax, sampled_softmax(EVENTS.popularity(), 64)]
BOTH = pytest.mark.parametrize("loss_of", LOSSES, ids=["full", "sampled"])


def robust(**keys: float) -> Robust:
    return Robust(RobustConfig.model_validate(keys))


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = np.random.default_rng(seed)
    histories = random.integers(0, N_ITEMS + 1, (6, HISTORY))
    targets = random.integers(1, N_ITEMS + 1, (6, HISTORY))
    return (torch.from_numpy(FEATURES.users[:6]), torch.from_numpy(histories), torch.from_numpy(targets))


def model_of(**changes: object) -> Retriever:
    torch.manual_seed(0)
    model = Retriever(retrieve_config(**changes), FEATURES, HISTORY)
    with torch.no_grad():
        model.items.identity.weight[1:] += torch.randn(N_ITEMS, 8)
    return model


def value(loss_of: Loss, model: Retriever, how: Robust, lesson: Lesson | None = None) -> Tensor:
    torch.manual_seed(1)
    return loss_of(model, *batch(), np.random.default_rng(0), lesson, how)


def trained(**changes: Any) -> dict[str, Tensor]:
    model, _ = train_retriever(EVENTS, FEATURES, retrieve_config(**changes), history=HISTORY, seed=3)
    return model.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_zeros_leave_training_as_it_is_to_the_bit(loss: str) -> None:
    without = trained(loss=loss, negatives=16, dropout=0.2)
    zeros = dict.fromkeys(RobustConfig.model_fields, 0)
    assert same(without, trained(loss=loss, negatives=16, dropout=0.2, robust=zeros))


@pytest.mark.parametrize("loss", ["full", "sampled"])
@pytest.mark.parametrize("keys", [ADVERSARY, {"label_smoothing": 0.1}, {"history_dropout": 0.3}])
def test_every_key_changes_training_and_the_same_seed_gives_the_same(
    loss: str, keys: dict[str, float]
) -> None:
    changes = {"loss": loss, "negatives": 16, "dropout": 0.2}
    changed = trained(**changes, robust=keys)
    assert not same(trained(**changes), changed)
    assert same(changed, trained(**changes, robust=keys))


# The adversary.


@BOTH
def test_the_worst_steps_are_worse_than_random_ones_of_the_same_length(loss_of: Loss) -> None:
    model = model_of(dropout=0.2).train()
    plain = value(loss_of, model, robust())
    both = value(loss_of, model, robust(adversarial_epsilon=0.05, adversarial_weight=1))
    worst = both - plain
    assert worst > plain
    encoder = model.items

    class Moved(torch.nn.Module):
        """The same vectors, each moved by 0.05 in a random direction."""

        def forward(self) -> Tensor:
            vectors = encoder()
            generator = torch.Generator().manual_seed(7)
            step = functional.normalize(torch.randn(vectors.shape, generator=generator), dim=-1)
            return vectors + 0.05 * step * (torch.arange(len(step)) > 0)[:, None]

        def table(self, *items: Tensor) -> tuple[Tensor, list[Tensor]]:
            return self(), [part.long() for part in items]

    model.items = Moved()  # type: ignore[assignment]
    assert worst > value(loss_of, model, robust())


def test_each_vector_is_moved_by_epsilon_along_its_gradient_and_padding_is_not() -> None:
    vectors = torch.randn(5, 3, requires_grad=True)
    weight = torch.randn(5, 3)
    seen = []

    def loss(moved: Tensor) -> Tensor:
        seen.append(moved.detach())
        return (moved * weight).sum()

    total = robust(adversarial_epsilon=0.5, adversarial_weight=2).harden(loss, vectors)
    step = 0.5 * functional.normalize(weight, dim=-1)
    step[0] = 0
    torch.testing.assert_close(seen[1] - seen[0], step)
    torch.testing.assert_close(total, 3 * (vectors * weight).sum() + 2 * (step * weight).sum())
    total.backward()
    torch.testing.assert_close(vectors.grad, 3 * weight)


def test_both_losses_see_the_same_dropout_and_the_next_step_another() -> None:
    vectors, drawn = torch.ones(2, 3, requires_grad=True), []

    def loss(moved: Tensor) -> Tensor:
        drawn.append(float(torch.rand(())))
        return moved.square().sum()

    for _ in range(2):
        robust(**ADVERSARY).harden(loss, vectors)
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]


def test_the_adversary_comes_in_with_its_epoch() -> None:
    late = {**ADVERSARY, "adversarial_from_epoch": 3}
    losses = []
    for keys in ({}, late):
        config = retrieve_config(epochs=3, robust=keys)
        _, curve = train_retriever(EVENTS, FEATURES, config, history=HISTORY, seed=3)
        losses.append([row["loss"] for row in curve])
    assert losses[0][:2] == losses[1][:2]
    assert losses[1][2] > 1.5 * losses[0][2]


def test_a_tried_step_takes_the_memory_of_the_adversary_too() -> None:
    tried = {}
    for name, keys in (("usual", {}), ("late", {**ADVERSARY, "adversarial_from_epoch": 2})):
        config = retrieve_config(robust=keys)
        tried[name] = Trainer(EVENTS, FEATURES, config, history=HISTORY, seed=3).try_step()
    assert tried["late"] > 1.5 * tried["usual"]


def test_a_model_that_goes_on_meets_the_adversary_at_once() -> None:
    config = retrieve_config(robust={**ADVERSARY, "adversarial_from_epoch": 2})
    start = Trainer(EVENTS, FEATURES, config, history=HISTORY, seed=3, start=model_of())
    fresh = Trainer(EVENTS, FEATURES, config, history=HISTORY, seed=3)
    assert start.robust.from_epoch == 0
    assert fresh.robust.from_epoch == 2


def test_a_model_trained_against_it_loses_less_to_worst_steps() -> None:
    losses = {}
    probe = robust(adversarial_epsilon=1.0, adversarial_weight=1)
    hard = {"adversarial_epsilon": 1.0, "adversarial_weight": 2.0}
    for name, keys in (("plain", {}), ("hardened", hard)):
        config = retrieve_config(epochs=25, learning_rate=0.01, robust=keys)
        model, _ = train_retriever(EVENTS, FEATURES, config, history=HISTORY, seed=3)
        plain = value(full_softmax, model, robust())
        losses[name] = float((value(full_softmax, model, probe) - 2 * plain).detach())
    assert losses["hardened"] < 0.7 * losses["plain"]


# Softer answers.


def test_smoothing_over_the_whole_catalogue_is_that_of_pytorch() -> None:
    logits, wanted = torch.randn(7, 9), torch.arange(7)
    found = robust(label_smoothing=0.2).smooth(functional.cross_entropy(logits, wanted), logits)
    torch.testing.assert_close(found, functional.cross_entropy(logits, wanted, label_smoothing=0.2))


def test_smoothing_over_many_drawn_items_is_near_that_over_the_whole_catalogue() -> None:
    model, how = model_of().eval(), robust(label_smoothing=0.9)
    popularity = np.arange(N_ITEMS + 1) ** 3  # items that are drawn often have large logits
    with torch.no_grad():
        model.bias += torch.linspace(0, 8, N_ITEMS + 1)
    whole, drawn = (
        float(value(loss_of, model, how).detach())
        for loss_of in (full_softmax, sampled_softmax(popularity, 50_000))
    )
    assert drawn == pytest.approx(whole, rel=5e-3)


def test_a_catalogue_of_one_item_is_no_reason_to_fail() -> None:
    model = Retriever(retrieve_config(), features_of(1, 1), HISTORY)
    ones = torch.ones((1, HISTORY), dtype=torch.int64)
    users = torch.from_numpy(features_of(1, 1).users)
    loss_of = sampled_softmax(np.array([0, 1]), 16)
    found = loss_of(model, users, ones, ones, np.random.default_rng(0), None, robust(label_smoothing=0.3))
    assert torch.isfinite(found)


# Gaps in histories.


def test_so_many_items_of_the_histories_are_hidden_and_nothing_else() -> None:
    histories = np.arange(1, 5001, dtype=np.int32).reshape(100, 50)
    found = robust(history_dropout=0.3).hide(histories, np.random.default_rng(0))
    assert found.dtype == np.int32
    assert ((found == 0) | (found == histories)).all()
    assert (found == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert robust().hide(histories, np.random.default_rng(0)) is histories


# With everything else that training has.


@BOTH
def test_all_of_it_goes_together_with_a_teacher(loss_of: Loss) -> None:
    random = torch.Generator().manual_seed(0)
    lesson = Lesson(
        torch.randn(6, HISTORY, 4, generator=random),
        torch.randn(N_ITEMS + 1, 4, generator=random),
        torch.randn(N_ITEMS + 1, generator=random),
        torch.zeros(N_ITEMS + 1, dtype=torch.bool),
        weight=0.5,
        temperature=2.0,
    )
    everything = robust(**ADVERSARY, label_smoothing=0.1)
    model = model_of()
    value(loss_of, model, everything, lesson).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    assert value(loss_of, model, everything, lesson) > value(loss_of, model, robust(), lesson)


def test_recomputed_blocks_give_the_same_gradients_against_the_adversary() -> None:
    gradients = []
    for recompute in (False, True):
        model = model_of(dropout=0.2).train()
        model.tower.recompute = recompute
        value(full_softmax, model, robust(**ADVERSARY)).backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_hidden_items_and_drawn_ones_train_too_with_few_users() -> None:
    config = retrieve_config(
        robust={**ADVERSARY, "label_smoothing": 0.1, "history_dropout": 0.9}, loss="sampled", negatives=8
    )
    events = interactions_of([1, 2, 3], [3], n_items=N_ITEMS)
    _, curve = train_retriever(events, features_of(2, N_ITEMS), config, history=HISTORY, seed=0)
    assert np.isfinite([row["loss"] for row in curve]).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"adversarial_epsilon": 0.5}, "adversarial_weight is 0; allowed: both above 0, or both 0"),
        ({"adversarial_weight": 0.5}, "adversarial_epsilon is 0 and"),
        ({**ADVERSARY, "adversarial_from_epoch": 31}, "is 31; allowed: up to epochs, 30"),
        ({"label_smoothing": 1}, "less than 1"),
        ({"history_dropout": -0.1}, "greater than or equal to 0"),
        ({"adversarial": 1}, "Extra inputs"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RetrieveConfig.model_validate({"robust": keys})
