"""How two answers of the device are held against each other."""

from __future__ import annotations

import numpy as np
import pytest

from tools.gpu.parity import Arrays, score_difference


def answer(candidate: list[int], retrieval: list[float], rank: list[float]) -> Arrays:
    return {
        "candidate": np.array([candidate], np.int32),
        "retrieval_score": np.array([retrieval], np.float32),
        "rank_score": np.array([rank], np.float32),
    }


FIRST = answer([7, 3, 9], [-1.0, -2.0, -2.0], [-5.0, -6.0, -7.0])


def test_near_ties_that_stand_the_other_way_round_are_no_difference() -> None:
    assert score_difference(answer([7, 9, 3], [-1.0, -2.0, -2.0], [-5.0, -7.0, -6.0]), FIRST) == 0


def test_another_rank_score_of_a_candidate_is_one() -> None:
    other = answer([7, 9, 3], [-1.0, -2.0, -2.0], [-5.0, -7.0, -6.6])
    assert score_difference(other, FIRST) == pytest.approx(0.1)


def test_lists_of_other_candidates_are_not_compared_at_all() -> None:
    assert score_difference(
        answer([7, 3, 4], [-1.0, -1.5, -2.0], [-5.0, -6.0, -7.0]), FIRST
    ) == pytest.approx(0.25)
    assert score_difference(answer([4, 3, 9], [-1.0, -2.0, -2.0], [-5.0, -6.0, -7.0]), FIRST) == np.inf


def test_another_retrieval_score_at_a_place_is_one() -> None:
    other = answer([7, 3, 9], [-1.0, -2.0, -2.5], [-5.0, -6.0, -7.0])
    assert score_difference(other, FIRST) == pytest.approx(0.25)
