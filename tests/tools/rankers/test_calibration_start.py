from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from tools.rankers.calibration import logistic_regression


def test_planted_weights_are_found() -> None:
    random = np.random.default_rng(0)
    columns = random.normal(size=(50_000, 2))
    clicked = random.random(50_000) < expit(columns @ [1.5, -0.5] - 2)
    weights, bias = logistic_regression(columns, clicked)
    assert weights == pytest.approx([1.5, -0.5], abs=0.07)
    assert bias == pytest.approx(-2, abs=0.07)
    assert expit(columns @ weights + bias).mean() == pytest.approx(clicked.mean(), rel=1e-3)


@pytest.mark.parametrize("clicked", [True, False])
def test_examples_that_are_all_alike_give_a_finite_bias_and_no_weights(clicked: bool) -> None:
    weights, bias = logistic_regression(np.ones((98, 2)), np.full(98, clicked))
    assert weights.tolist() == [0, 0]
    assert expit(bias) == pytest.approx(0.99 if clicked else 0.01)


def test_examples_that_can_be_told_apart_give_finite_weights() -> None:
    weights, _ = logistic_regression(np.array([[-1.0], [1.0]]), np.array([False, True]))
    assert np.isfinite(weights).all()
    assert weights[0] > 1
