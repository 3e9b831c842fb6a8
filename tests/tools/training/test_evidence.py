"""Evidence: what each item of a history says about a candidate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import interactions_of

from tools.evaluation.baselines import EASE
from tools.training.evidence import Evidence, Neighbours

# Items 1 and 2 go together, and so do 3, 4 and 5; nobody met item 6.
EVENTS = interactions_of(*[[1, 2]] * 30, *[[3, 4, 5]] * 30, *[[1, 3]] * 2, n_items=6)
EVERY_ITEM = torch.arange(1, 7)[None]


def evidence_of(*history: int, count: int = 6) -> np.ndarray:
    """For items 1 to 6."""
    padded = torch.tensor([[0] * (4 - len(history)) + list(history)])
    return Evidence(Neighbours.of(EVENTS, count))(padded, EVERY_ITEM)[0].numpy()


def test_items_that_go_together_speak_for_each_other() -> None:
    assert evidence_of(1).argmax() == 1
    assert set(np.argsort(-evidence_of(3))[:2]) == {3, 4}


def test_it_is_the_linear_model_standardised_over_the_candidates() -> None:
    weights = EASE().fit(EVENTS).weights
    total = weights[[1, 4]].sum(axis=0)[1:]
    np.testing.assert_allclose(evidence_of(1, 4), (total - total.mean()) / total.std(), rtol=1e-3, atol=1e-3)


def test_padding_says_nothing_and_no_history_gives_no_evidence() -> None:
    np.testing.assert_array_equal(evidence_of(), np.zeros(6))
    neighbours = Neighbours.of(EVENTS, 6)
    assert not neighbours.weights[0].any()
    assert not neighbours.weights[neighbours.items == 0].any()


def test_only_the_greatest_weights_of_an_item_are_kept() -> None:
    weights = EASE().fit(EVENTS).weights
    one = Neighbours.of(EVENTS, 1)
    assert one.items.shape == (7, 1)
    for item in range(1, 7):
        assert abs(one.weights[item, 0]) == pytest.approx(np.abs(weights[item]).max())


@pytest.mark.parametrize("neighbours", [Neighbours.of(EVENTS, 0), Neighbours.none(6)])
def test_without_neighbours_there_is_none(neighbours: Neighbours) -> None:
    assert not Evidence(neighbours)(torch.tensor([[1, 3]]), EVERY_ITEM).any()


def test_a_catalogue_too_large_for_the_closed_form_does_without() -> None:
    large = interactions_of([1, 2], n_items=20_001)
    assert not Neighbours.of(large, 256).weights.any()


def test_what_nobody_has_met_gets_the_evidence_that_such_scores_usually_have() -> None:
    evidence = Evidence(Neighbours.none(6))
    evidence.leave_out(np.array([True, False, False, False, True, True, False]))
    candidates = torch.tensor([[1, 2, 3, 4, 0]])
    scores = torch.tensor([[-1.0, -2.0, -3.0, -1.5, -1e4]])

    completed = evidence.completed(torch.tensor([[2.0, 0.0, -2.0, -0.7, 0.3]]), candidates, scores)

    # Evidence falls by 2 for each 1 of score, and padding has no part in it.
    assert torch.allclose(completed, torch.tensor([[2.0, 0.0, -2.0, 1.0, 0.3]]), atol=1e-4)


def test_where_every_item_was_met_evidence_stays_as_it_is() -> None:
    evidence = Evidence(Neighbours.none(3))
    evidence.leave_out(np.array([True, False, False, False]))
    given = torch.tensor([[1.0, -1.0]])

    assert evidence.completed(given, torch.tensor([[1, 2]]), torch.tensor([[-1.0, -2.0]])) is given


def test_a_row_of_which_nothing_was_met_has_no_evidence_at_all() -> None:
    evidence = Evidence(Neighbours.none(2))
    evidence.leave_out(np.array([True, True, True]))
    completed = evidence.completed(
        torch.tensor([[0.5, -0.5]]), torch.tensor([[1, 2]]), torch.tensor([[-1.0, -2.0]])
    )
    assert torch.equal(completed, torch.zeros(1, 2))
