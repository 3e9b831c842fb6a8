from __future__ import annotations

import numpy as np
import pytest

from tools.checks import (
    TOLERANCE,
    Agreement,
    CheckFailed,
    compare_pages,
    require_agreement,
    require_same_inputs,
)

ITEMS = np.array([[7, 8, 9], [5, 6, -1]], np.int64)
SCORES = np.array([[0.5, 0.2, 0.1], [0.9, 0.05, 0]], np.float32)


def pages(items: object = ITEMS, scores: object = SCORES) -> dict[str, np.ndarray]:
    return {"item_id": np.array(items, np.int64), "score": np.array(scores, np.float32)}


def test_equal_pages_agree() -> None:
    agreement = compare_pages(pages(), pages())
    assert agreement == Agreement(users=2, different_lists=0, score_difference=0)
    assert agreement.holds
    require_agreement("two ways", agreement)


def test_scores_may_differ_by_rounding() -> None:
    assert compare_pages(pages(), pages(scores=SCORES + TOLERANCE / 2)).holds
    assert not compare_pages(pages(), pages(scores=SCORES + 10 * TOLERANCE)).holds


def test_the_tolerance_grows_with_the_scores() -> None:
    assert compare_pages(pages(scores=SCORES + 1000), pages(scores=SCORES + 1000.005)).holds


@pytest.mark.parametrize("items", [[[7, 9, 8], [5, 6, -1]], [[7, 8, 9], [5, 6, 4]]])
def test_another_order_or_another_item_is_a_different_list(items: list[list[int]]) -> None:
    agreement = compare_pages(pages(), pages(items))
    assert agreement.different_lists == 1
    assert not agreement.holds


def test_a_score_that_is_no_number_never_agrees() -> None:
    broken = SCORES.copy()
    broken[0, 2] = np.nan
    assert not compare_pages(pages(scores=broken), pages()).holds
    assert not compare_pages(pages(), pages(scores=broken)).holds


def test_no_users_agree() -> None:
    nobody = {name: array[:0] for name, array in pages().items()}
    assert compare_pages(nobody, nobody).holds


def test_a_failed_check_says_what_was_compared_and_how_far_it_is_off() -> None:
    agreement = compare_pages(pages(), pages([[7, 9, 8], [5, 6, -1]], SCORES + 0.5))
    with pytest.raises(CheckFailed, match=r"served and trained: 1 of 2 lists differ, scores by up to 0.3\d"):
        require_agreement("served and trained", agreement)


def test_what_is_served_is_what_was_trained_on_for_every_user() -> None:
    trained_on = {"history": np.array([[0, 3], [4, 5]])}
    require_same_inputs({"history": np.array([[0, 3], [4, 5]]), "seen": np.zeros((2, 4))}, trained_on)
    with pytest.raises(CheckFailed, match="history: 1 of 2 users are served something else"):
        require_same_inputs({"history": np.array([[0, 3], [5, 4]])}, trained_on)
