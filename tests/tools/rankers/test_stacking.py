from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_clicks import MATCH, planted_examples
from scipy.special import expit

from tools.rankers.stacking import held_out_users, stack

EXAMPLES, TRUTH = planted_examples(3000, seed=5)
THERE = EXAMPLES.candidates != 0
RIGHT = np.where(THERE, np.log(np.maximum(TRUTH, 1e-9) / (1 - TRUTH)), -1e4).astype(np.float32)
NOISE = np.where(THERE, np.random.default_rng(6).normal(size=TRUTH.shape), -1e4).astype(np.float32)


def test_the_ranker_that_is_right_gets_the_weight() -> None:
    stacking = stack([NOISE, RIGHT], EXAMPLES)
    assert stacking.weights[0] == pytest.approx(0, abs=0.1)
    assert stacking.weights[1] == pytest.approx(1, abs=0.15)


def test_a_ranker_that_says_the_opposite_is_not_listened_to() -> None:
    stacking = stack([RIGHT, np.where(THERE, -RIGHT, -1e4).astype(np.float32)], EXAMPLES)
    assert (stacking.weights >= 0).all()
    assert stacking.weights[1] < 0.05


def test_one_that_is_twice_too_sure_is_believed_half() -> None:
    stacking = stack([np.where(THERE, 2 * RIGHT + 3, -1e4).astype(np.float32)], EXAMPLES)
    assert stacking.weights == pytest.approx([0.5], abs=0.08)


def test_the_bias_makes_probabilities_add_up_to_clicks() -> None:
    logits = np.where(THERE, 2 * RIGHT + 3, -1e4).astype(np.float32)
    stacking = stack([logits], EXAMPLES)
    stated = expit(stacking.weights[0] * logits.astype(np.float64) + stacking.bias)[THERE]
    assert stated.sum() == pytest.approx((EXAMPLES.targets >= 0).sum(), rel=1e-4)
    assert stated[TRUTH[THERE] == MATCH].mean() == pytest.approx(MATCH, rel=0.15)


def test_rankers_that_say_the_same_share_the_weight() -> None:
    stacking = stack([RIGHT, RIGHT], EXAMPLES)
    assert stacking.weights[0] == pytest.approx(stacking.weights[1], abs=1e-3)


def test_the_same_examples_give_the_same_weights() -> None:
    first, again = stack([NOISE, RIGHT], EXAMPLES), stack([NOISE, RIGHT], EXAMPLES)
    assert first.weights.tobytes() == again.weights.tobytes()
    assert first.bias == again.bias


def test_where_no_next_item_was_retrieved_the_weights_are_those_of_the_average() -> None:
    lost = replace(EXAMPLES, targets=np.full(len(EXAMPLES.users), -1))
    stacking = stack([NOISE, RIGHT], lost)
    assert stacking.weights.tolist() == [0.5, 0.5]
    assert stacking.bias == 0


def test_logits_of_other_examples_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"logits are \[\(2999, 10\)\]; there must be some, each \(3000, 10\)"
    ):
        stack([RIGHT[1:]], EXAMPLES)
    with pytest.raises(ValueError, match=r"logits are \[\]"):
        stack([], EXAMPLES)


def test_no_user_is_both_learned_from_and_held_out() -> None:
    learned, held = held_out_users(EXAMPLES, 0.2, seed=1)
    assert not set(learned.users) & set(held.users)
    assert len(np.unique(held.users)) == 4
    assert len(learned.users) + len(held.users) == len(EXAMPLES.users)
    again = held_out_users(EXAMPLES, 0.2, seed=1)[1]
    assert np.array_equal(held.candidates, again.candidates)


def test_a_share_of_none_holds_nobody_out() -> None:
    learned, held = held_out_users(EXAMPLES, 0.0, seed=1)
    assert len(learned.users) == len(EXAMPLES.users)
    assert not len(held.users)
