from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonrec_client.contract import Sizes

from python_backend.item_index import PADDING_SCORE
from python_backend.release import Release
from python_backend.stages.cut import Cut


def asked(rows: list[list[tuple[int, int]]], width: int) -> dict[str, np.ndarray]:
    """Rows of (candidate, score), filled up with padding; retrieval score and channel tell who is who."""
    candidate = np.zeros((len(rows), width), np.int32)
    score = np.full((len(rows), width), PADDING_SCORE, np.float32)
    for row, pairs in enumerate(rows):
        for place, (item, value) in enumerate(pairs):
            candidate[row, place], score[row, place] = item, value
    return {
        "candidate": candidate,
        "retrieval_score": np.where(candidate, -candidate.astype(np.float32), PADDING_SCORE),
        "rank_score": score,
        "candidate_channel": candidate % 7,
    }


def test_the_best_are_kept_best_first_each_with_what_belongs_to_it() -> None:
    answer = Cut(2)(asked([[(5, 1), (8, 3), (9, 2)]], 4))
    assert answer["candidate"].tolist() == [[8, 9]]
    assert answer["rank_score"].tolist() == [[3, 2]]
    assert answer["retrieval_score"].tolist() == [[-8, -9]]
    assert answer["candidate_channel"].tolist() == [[1, 2]]
    assert [array.dtype for array in answer.values()] == [np.int32, np.float32, np.float32, np.int32]


def test_without_channels_none_are_given() -> None:
    inputs = asked([[(5, 1), (8, 3), (9, 2)]], 4)
    del inputs["candidate_channel"]
    assert list(Cut(2)(inputs)) == ["candidate", "retrieval_score", "rank_score"]


def test_of_equal_candidates_the_earlier_ones_are_kept() -> None:
    answer = Cut(3)(asked([[(5, 1), (8, 1), (9, 1), (4, 1)]], 4))
    assert answer["candidate"].tolist() == [[5, 8, 9]]


def test_padding_is_last_even_behind_the_worst_score() -> None:
    inputs = asked([[(5, -20000), (8, 3)]], 4)
    assert Cut(3)(inputs)["candidate"].tolist() == [[8, 5, 0]]


rows = st.lists(
    st.lists(st.tuples(st.integers(1, 60), st.integers(-3, 3)), max_size=12, unique_by=lambda pair: pair[0]),
    min_size=1,
    max_size=4,
)


@given(rows, st.integers(1, 12))
def test_exactly_the_best_are_kept_in_order_of_score_then_place(
    rows: list[list[tuple[int, int]]], keep: int
) -> None:
    answer = Cut(keep)(asked(rows, 12))["candidate"]
    assert answer.shape == (len(rows), keep)
    for pairs, kept in zip(rows, answer.tolist(), strict=True):
        best = [item for item, _ in sorted(pairs, key=lambda pair: -pair[1])][:keep]
        assert kept == best + [0] * (keep - len(best))


@given(rows, st.integers(1, 12))
def test_no_candidate_is_kept_twice_and_rows_do_not_touch_each_other(
    rows: list[list[tuple[int, int]]], keep: int
) -> None:
    inputs, cut = asked(rows, 12), Cut(keep)
    together = cut(inputs)
    for row in range(len(rows)):
        kept = together["candidate"][row]
        assert len(set(kept[kept > 0].tolist())) == np.count_nonzero(kept)
        alone = cut({name: array[row : row + 1] for name, array in inputs.items()})
        for name, array in alone.items():
            assert np.array_equal(array[0], together[name][row])


def test_a_step_keeps_as_many_as_its_release_says_that_it_gives(tmp_path: Path) -> None:
    cut = Cut.load(Release("0123456789ab", Sizes(candidates=3, results=2), tmp_path), {})
    assert cut(asked([[(5, 1), (8, 3), (9, 2), (4, 7)]], 4))["candidate"].tolist() == [[4, 8, 9]]


def test_keeping_none_or_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="keep is 0; it must be at least 1"):
        Cut(0)
    with pytest.raises(ValueError, match="2 candidates; there must be at least 3 to keep"):
        Cut(3)(asked([[(5, 1)]], 2))
