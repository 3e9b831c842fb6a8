from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tools.training.optimisation import WARM_UP_STEPS, Optimisation


def optimisation_of(steps: int) -> tuple[nn.Parameter, Optimisation]:
    parameter = nn.Parameter(torch.ones(3))
    return parameter, Optimisation([parameter], learning_rate=0.1, weight_decay=0.0, steps=steps)


def test_a_step_returns_the_loss_and_descends() -> None:
    parameter, optimisation = optimisation_of(10)
    losses = [optimisation.step(parameter.square().sum()) for _ in range(5)]
    assert losses[0] == 3
    assert losses == sorted(losses, reverse=True)


def test_the_learning_rate_warms_up_and_decays_to_a_twentieth() -> None:
    parameter, optimisation = optimisation_of(400)
    rates = []
    for _ in range(400):
        rates.append(optimisation.optimiser.param_groups[0]["lr"])
        optimisation.step(parameter.sum())
    assert rates[0] == pytest.approx(0.1 / WARM_UP_STEPS)
    highest = rates.index(max(rates))
    assert highest == WARM_UP_STEPS - 1
    assert rates[highest:] == sorted(rates[highest:], reverse=True)
    assert optimisation.optimiser.param_groups[0]["lr"] == pytest.approx(0.005)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_refused_and_changes_nothing(value: float) -> None:
    parameter, optimisation = optimisation_of(10)
    message = f"the training loss became {value}; lower the learning rate"
    with pytest.raises(FloatingPointError, match=message):
        optimisation.step(parameter.sum() * value)
    assert parameter.tolist() == [1, 1, 1]


def test_one_huge_loss_does_not_stop_the_learning_after_it() -> None:
    moved = []
    for scale in (1.0, 1e6):
        parameter, optimisation = optimisation_of(50)
        for step in range(50):
            optimisation.step((parameter * (scale if step == 20 else 1.0)).sum())
        moved.append(float(1 - parameter.detach()[0]))
    assert moved[1] > 0.8 * moved[0] > 0
