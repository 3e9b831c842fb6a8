from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_rankers import FEATURES, RANK, toy_ranker, toy_requests

from tools.compression.pruning import prune
from tools.training.rank_training import rank_logits


def test_pruning_nothing_changes_nothing() -> None:
    ranker, requests = toy_ranker(), toy_requests()
    np.testing.assert_array_equal(
        rank_logits(prune(ranker, 0), requests, FEATURES), rank_logits(ranker, requests, FEATURES)
    )


def test_the_share_of_units_goes_from_every_hidden_layer() -> None:
    pruned = prune(toy_ranker(), 0.5)
    for cross in pruned.crosses:
        assert cross.narrow.out_features == cross.widen.in_features == RANK.width // 2
    assert pruned.deep[0].out_features == pruned.deep[3].in_features == RANK.hidden // 2
    assert pruned.deep[3].out_features == RANK.hidden // 2
    joint = pruned.norm.weight.shape[0]
    assert pruned.correction.in_features == joint + RANK.hidden // 2


def test_the_units_that_go_are_those_with_the_smallest_weights() -> None:
    """Units that say nothing at all are made; taking just these out leaves every answer as it was."""
    ranker, requests = toy_ranker(), toy_requests()
    silent = torch.arange(0, RANK.hidden, 2)
    joint = ranker.norm.weight.shape[0]
    with torch.no_grad():
        for cross in ranker.crosses:
            cross.narrow.weight[::2] = 0
        ranker.deep[0].weight[silent], ranker.deep[0].bias[silent] = 0, 0
        ranker.correction.weight[:, joint + silent] = 0
    before = rank_logits(ranker, requests, FEATURES)
    np.testing.assert_allclose(rank_logits(prune(ranker, 0.5), requests, FEATURES), before, atol=1e-5)
    more = rank_logits(prune(ranker, 0.6), requests, FEATURES)
    assert np.abs(more - before).max() > 1e-3


def test_the_trained_ranker_is_left_as_it_was() -> None:
    ranker, requests = toy_ranker(), toy_requests()
    before = rank_logits(ranker, requests, FEATURES)
    prune(ranker, 0.9)
    np.testing.assert_array_equal(rank_logits(ranker, requests, FEATURES), before)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_leaves_nothing_or_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"share is {share}; allowed"):
        prune(toy_ranker(), share)
