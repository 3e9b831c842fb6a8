"""Golden requests where a card computes: most items must be the same, for half precision moves near ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tools.releases.golden import unlikeness

PAGE = {
    "item_id": np.array([7, 5, 9, 4, 8], np.int64),
    "score": np.array([0.5, 0.3, 0.1, 0.06, 0.04], np.float32),
    "reason": np.array([1, 1, 3, 1, 1], np.int32),
    "status": np.array([1], np.int32),
    "rank_release": np.array([0x0123456789AB], np.int64),
}
RANKED = {"rank_score": np.array([4.0, 2.0, -1.0, -1e4], np.float32)}


def changed(answer: dict[str, Any], **arrays: list[Any]) -> dict[str, Any]:
    return answer | {name: np.array(array, answer[name].dtype) for name, array in arrays.items()}


def test_the_same_answer_is_alike() -> None:
    assert unlikeness(PAGE, PAGE) is None
    assert unlikeness(RANKED, RANKED) is None


def test_items_may_swap_and_one_in_five_may_be_another() -> None:
    assert unlikeness(PAGE, changed(PAGE, item_id=[5, 7, 9, 8, 11])) is None


def test_a_page_with_fewer_of_its_items_is_told() -> None:
    found = changed(PAGE, item_id=[7, 5, 9, 11, 12])

    assert unlikeness(PAGE, found) == "item_id has 60% of the items that it had; allowed is 80%"


def test_padding_is_no_item_that_pages_have_in_common() -> None:
    short = changed(PAGE, item_id=[7, -1, -1, -1, -1])

    assert unlikeness(short, changed(PAGE, item_id=[5, -1, -1, -1, -1])) is not None
    assert unlikeness(changed(PAGE, item_id=[-1] * 5), PAGE) is None


def test_whatever_is_no_score_must_be_the_same() -> None:
    assert unlikeness(PAGE, changed(PAGE, status=[3])) == "status[0] is 3; it was 1"


def test_the_rankers_scores_may_be_off_by_a_share_of_the_greatest() -> None:
    assert unlikeness(RANKED, changed(RANKED, rank_score=[3.9, 2.1, -1.1, -1e4])) is None
    assert unlikeness(RANKED, changed(RANKED, rank_score=[2.0, 4.0, -1.0, -1e4])) == (
        "rank_score is off by 2; allowed is 5% of 4"
    )


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_told(score: float) -> None:
    assert unlikeness(RANKED, changed(RANKED, rank_score=[score, 2.0, -1.0, -1e4])) is not None
