"""What a teacher adds to the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import HISTORY, features_of, random_interactions, retrieve_config

from tools.data.interactions import Interactions
from tools.training.features import Features
from tools.training.lesson import Lesson
from tools.training.retriever import Retriever, full_softmax, sampled_softmax
from tools.training.windows import cut_windows

N_USERS, N_ITEMS, WIDTH = 24, 30, 12


@pytest.fixture(scope="module")
def events() -> Interactions:
    return random_interactions(N_USERS, N_ITEMS)


@pytest.fixture(scope="module")
def features() -> Features:
    return features_of(N_USERS, N_ITEMS)


@pytest.fixture
def model(features: Features) -> Retriever:
    torch.manual_seed(0)
    model = Retriever(retrieve_config(), features, HISTORY)
    with torch.no_grad():
        model.items.identity.weight.add_(torch.randn_like(model.items.identity.weight) * 0.5)
    return model


def batch(events: Interactions, features: Features) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    windows = cut_windows(events, HISTORY)
    users = torch.from_numpy(features.users[windows.users])
    return users, torch.from_numpy(windows.histories), torch.from_numpy(windows.targets)


def lesson_for(histories: torch.Tensor, weight: float, temperature: float) -> Lesson:
    """The word of a teacher with another width than the model's."""
    torch.manual_seed(1)
    return Lesson(
        torch.randn(*histories.shape, WIDTH),
        torch.randn(N_ITEMS + 1, WIDTH) * 0.5,
        torch.randn(N_ITEMS + 1) * 0.5,
        torch.zeros(N_ITEMS + 1, dtype=torch.bool),
        weight,
        temperature,
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_surprise_and_divergence_from_the_teacher_by_their_weights(
    model: Retriever, events: Interactions, features: Features, temperature: float
) -> None:
    users, histories, targets = batch(events, features)
    lesson = lesson_for(histories, 0.3, temperature)
    random = np.random.default_rng(0)
    found = full_softmax(model, users, histories, targets, random, lesson)
    with torch.no_grad():
        vectors = model.items()
        student = (model.tower(users, histories, vectors[histories.long()]) @ vectors.T + model.bias)[..., 1:]
        teacher = (lesson.queries @ lesson.vectors.T + lesson.bias)[..., 1:]
        likely, said = (
            (logits[targets > 0] / temperature).softmax(-1).double() for logits in (teacher, student)
        )
        divergence = (likely * (likely / said).log()).sum(-1).mean() * temperature**2
        surprise = full_softmax(model, users, histories, targets, random)
    assert float(found.detach()) == pytest.approx(float(0.7 * surprise + 0.3 * divergence), rel=1e-5)


def test_who_says_what_the_teacher_says_has_nothing_to_learn_from_it() -> None:
    logits = torch.randn(5, 7)
    lesson = lesson_for(torch.zeros(1, 1), 1.0, 2.0)
    hidden = torch.zeros(7, dtype=torch.bool)
    # A constant on all logits of a row says nothing.
    assert float(lesson.mix(torch.tensor(3.0), logits, logits + 5, hidden)) == pytest.approx(0, abs=1e-6)


def test_items_that_the_teacher_has_never_met_are_left_to_the_events() -> None:
    """Neither does the divergence look at them, nor does a gradient reach them; and nothing becomes NaN."""
    lesson = lesson_for(torch.zeros(1, 1), 1.0, 2.0)
    hidden = torch.tensor([False, False, True, False])
    teacher = torch.randn(6, 4)
    student = torch.randn(6, 4, requires_grad=True)
    value = lesson.mix(torch.tensor(0.0), student, teacher, hidden)
    value.backward()
    assert student.grad is not None
    assert not student.grad[:, 2].any()
    assert student.grad[:, [0, 1, 3]].all()
    kept = [0, 1, 3]
    alone = lesson.mix(torch.tensor(0.0), student[:, kept], teacher[:, kept], hidden[kept])
    assert float(value.detach()) == pytest.approx(float(alone.detach()))


def test_over_sampled_negatives_the_lesson_approaches_that_over_the_whole_catalogue(
    model: Retriever, events: Interactions, features: Features
) -> None:
    inputs = batch(events, features)
    lesson = lesson_for(inputs[1], 1.0, 2.0)
    whole = float(full_softmax(model, *inputs, np.random.default_rng(0), lesson).detach())
    far = []
    for negatives in (20, 500, 20_000):
        loss_of = sampled_softmax(events.popularity(), negatives)
        values = [
            float(loss_of(model, *inputs, np.random.default_rng(seed), lesson).detach()) for seed in range(5)
        ]
        far.append(float(np.mean(np.abs(np.array(values) - whole))))
    assert far == sorted(far, reverse=True)
    assert far[-1] < 0.02 * whole
