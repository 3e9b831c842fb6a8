"""RecBole's SASRec made quicker. That it still answers as RecBole's own is checked before each training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tools.recbole.quicker import QuickDropout


def dropout(p: float) -> QuickDropout:
    return QuickDropout(p, np.random.Generator(np.random.SFC64(1)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_removes_its_share_and_keeps_the_mean(p: float) -> None:
    values = torch.ones(300, 1000, requires_grad=True)
    left = dropout(p)(values)
    assert set(left.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p)).item()}
    assert (left == 0).float().mean().item() == pytest.approx(p, abs=0.005)
    left.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, left.detach())


def test_each_draw_is_another_and_the_same_seed_draws_the_same() -> None:
    values, once = torch.ones(1000), dropout(0.5)
    first = once(values)
    assert not torch.equal(first, once(values))
    assert torch.equal(first, dropout(0.5)(values))


def test_nothing_is_removed_outside_training() -> None:
    values = torch.randn(50)
    assert torch.equal(dropout(0.5).eval()(values), values)
