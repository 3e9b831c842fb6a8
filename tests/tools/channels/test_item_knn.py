from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from implicit.nearest_neighbours import CosineRecommender
from memory_material import SIZES, asks, crowd, events_of, material_of, opened, section
from numpy.typing import NDArray
from tritonrec_client.contract import Sizes

from tools.channels.item_rows import ItemRows
from tools.channels.registry import fit_channel
from tools.data.interactions import Interactions
from tools.evaluation.baselines import ItemKNN

Array = NDArray[Any]
PEOPLE = crowd(2000, 150, seed=3)
WIDE = Sizes(candidates=100, results=5, history=6, seen=24, user_features=1)


def fit(interactions: Interactions = PEOPLE, **keys: Any) -> ItemRows:
    channel = fit_channel(section("item_knn", **keys), material_of(interactions))
    assert isinstance(channel, ItemRows)
    return channel


def lists_of(channel: ItemRows, folder: Path, people: Interactions = PEOPLE) -> tuple[Array, Array]:
    everybody = asks(*(people.user(row).tolist() for row in range(people.n_users)), sizes=WIDE)
    answer = opened(channel, folder, WIDE)(everybody)
    return answer["candidate"], answer["retrieval_score"]


def alike(items: Array, scores: Array, wanted: Array, wanted_scores: Array) -> bool:
    """Whether two lists are the same but for the order of equal scores, and the choice among the last."""
    if len(items) != len(wanted) or not np.allclose(scores, wanted_scores, 1e-5, 1e-6):
        return False
    rounded = np.concatenate([[0], np.cumsum(-np.diff(wanted_scores) > 1e-6)])
    groups = [
        (set(items[rounded == group].tolist()), set(wanted[rounded == group].tolist()))
        for group in range(rounded[-1] + 1 if len(items) else 0)
    ]
    complete = groups if len(items) < WIDE.candidates else groups[:-1]
    return all(found == expected for found, expected in complete)


def implicit_model(neighbours: int) -> CosineRecommender:
    model = CosineRecommender(K=neighbours + 1, num_threads=1)  # it counts the item itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a conversion that is its own
        model.fit(PEOPLE.to_csr()[:, 1:].tocsr(), show_progress=False)
    return model


def implicit_lists(neighbours: int) -> list[tuple[Array, Array]]:
    model, seen, lists = implicit_model(neighbours), PEOPLE.to_csr()[:, 1:].tocsr(), []
    for row in range(PEOPLE.n_users):
        items, scores = model.recommend(row, seen[row], N=WIDE.candidates)
        lists.append((items[scores > 0] + 1, scores[scores > 0]))
    return lists


def without_a_choice_at_the_end(neighbours: int) -> Array:
    """Items whose neighbours are the same however equal cosines are ordered, bool ``[I + 1]``."""
    cosines = np.sort(fit(neighbours=150, shrinkage=0).matrix.toarray(), axis=0)[::-1]  # columns are items
    last, next_one = cosines[neighbours - 1], cosines[neighbours]
    return (last - next_one > 1e-6) | (last == 0)


@pytest.mark.parametrize("neighbours", [150, 20, 5])
def test_lists_are_those_of_implicit_up_to_ties(neighbours: int, tmp_path: Path) -> None:
    channel = fit(neighbours=neighbours, neighbours_of="history", shrinkage=0)
    items, scores = lists_of(channel, tmp_path / "channel")
    certain = without_a_choice_at_the_end(neighbours) if neighbours < 150 else np.ones(151, np.bool_)
    compared = 0
    for row, (wanted, wanted_scores) in enumerate(implicit_lists(neighbours)):
        # Where two neighbours of an item tie for its last place, either choice is right, with other lists.
        if certain[PEOPLE.user(row)].all():
            count = int((items[row] > 0).sum())
            assert alike(items[row, :count], scores[row, :count], wanted, wanted_scores), f"user {row}"
            compared += 1
    assert compared >= (2000 if neighbours == 150 else 1000)


@pytest.mark.parametrize("neighbours", [20, 5])
def test_neighbours_are_those_of_implicit_but_for_which_of_equal_ones_is_the_last(neighbours: int) -> None:
    mine = fit(neighbours=neighbours, neighbours_of="history", shrinkage=0).matrix.toarray()[1:, 1:]
    theirs = implicit_model(neighbours).similarity.toarray()
    np.fill_diagonal(theirs, 0)
    assert np.allclose(np.sort(mine, axis=1), np.sort(theirs, axis=1), atol=1e-6)
    least = np.sort(mine, axis=1)[:, [-neighbours]]
    assert np.array_equal(mine > least + 1e-6, theirs > least + 1e-6)


def test_another_number_of_neighbours_gives_other_lists_than_implicit(tmp_path: Path) -> None:
    """That the comparison above can fail."""
    channel = fit(neighbours=18, neighbours_of="history", shrinkage=0)
    items, scores = lists_of(channel, tmp_path / "channel")
    same = [
        alike(items[row][items[row] > 0], scores[row][items[row] > 0], *wanted)
        for row, wanted in enumerate(implicit_lists(20))
    ]
    assert np.mean(same) < 0.2


def test_lists_are_those_of_the_report_s_baseline(tmp_path: Path) -> None:
    """With all neighbours, so that none of them is a matter of chance."""
    items, _ = lists_of(fit(neighbours=150, shrinkage=0), tmp_path / "channel")
    baseline = ItemKNN(neighbours=151).fit(PEOPLE)
    wanted = baseline.recommend(PEOPLE, WIDE.candidates)
    scores = baseline._score(PEOPLE.to_csr())
    for row in range(PEOPLE.n_users):
        found = items[row][items[row] > 0]
        assert np.allclose(scores[row, found], scores[row, wanted[row, : len(found)]], atol=1e-5)
        assert (scores[row, wanted[row, len(found) :]] == 0).all()


def test_only_the_nearest_of_a_candidate_speak_for_it() -> None:
    # Item 1 was twice with item 2, once with item 3.
    people = events_of([1, 2], [1, 2, 3], [3, 4], n_items=80)
    matrix = fit(people, neighbours=1, shrinkage=0).matrix.toarray()
    assert matrix[2, 1] == pytest.approx(1)
    assert matrix[3, 1] == 0
    of_history = fit(people, neighbours=1, shrinkage=0, neighbours_of="history").matrix.toarray()
    assert np.array_equal(of_history, matrix.T)


def test_shrinkage_lets_few_users_in_common_say_less() -> None:
    people = events_of([1, 2], *[[3, 4]] * 9, n_items=80)
    certain, doubted = fit(people, shrinkage=0).matrix, fit(people, shrinkage=3).matrix
    assert certain[1, 2] == certain[3, 4] == 1
    assert doubted[1, 2] == pytest.approx(1 / 4)
    assert doubted[3, 4] == pytest.approx(9 / 12)


def test_an_item_is_not_its_own_neighbour_and_padding_is_nobodys() -> None:
    matrix = fit().matrix
    assert not matrix.diagonal().any()
    assert not matrix[0].toarray().any()
    assert not matrix[:, 0].toarray().any()


def test_scores_of_a_user_are_the_sums_of_all_that_was_seen(tmp_path: Path) -> None:
    channel = fit(neighbours=10)
    seen = [1, 5, 9, 13, 17, 21, 25, 29, 33]
    assert len(seen) > SIZES.history
    answer = opened(channel, tmp_path / "channel")(asks(seen))
    items = answer["candidate"][0]
    expected = channel.matrix[seen].toarray().sum(axis=0)[items]
    assert (items > 0).all()
    assert answer["retrieval_score"][0] == pytest.approx(expected, abs=1e-6)
