from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_material import SIZES, asks, crowd, events_of, material_of, opened, section

from tools.channels.registry import fit_channel
from tools.channels.user_knn import UserItems
from tools.data.interactions import Interactions


def fit(interactions: Interactions, **keys: Any) -> UserItems:
    channel = fit_channel(section("user_knn", **keys), material_of(interactions))
    assert isinstance(channel, UserItems)
    return channel


def answer(interactions: Interactions, folder: Path, seen: list[int], **keys: Any) -> dict[int, float]:
    """Items in their order, with their scores."""
    found = opened(fit(interactions, **keys), folder / "channel")(asks(seen))
    items, scores = found["candidate"][0], found["retrieval_score"][0]
    return dict(zip(items[items > 0].tolist(), scores[items > 0].tolist(), strict=True))


def test_a_vote_counts_as_the_cosine_to_its_power(tmp_path: Path) -> None:
    people = events_of([1, 2, 3], [1, 4], n_items=80)
    found = answer(people, tmp_path, [1, 2], power=2)
    # Two of her two and of his three; one of her two and of the other's two.
    assert found == {3: pytest.approx(4 / 6), 4: pytest.approx(1 / 4)}


def test_votes_for_the_same_item_add_up(tmp_path: Path) -> None:
    people = events_of([1, 5], [1, 5], [2, 1, 6], n_items=80)
    found = answer(people, tmp_path, [1], power=1)
    assert list(found) == [5, 2, 6]
    assert found[5] == pytest.approx(2 / np.sqrt(2))
    assert found[2] == found[6] == pytest.approx(1 / np.sqrt(3))


def test_only_the_nearest_users_vote(tmp_path: Path) -> None:
    people = events_of([1, 2, 3], [1, 4], n_items=80)
    assert list(answer(people, tmp_path, [1, 2], neighbours=1)) == [3]


def test_who_has_nothing_to_add_takes_nobody_s_place(tmp_path: Path) -> None:
    """As a user's own stored row, which is nearer than anybody's."""
    people = events_of([1, 2], [2], [1, 2, 3], n_items=80)
    assert list(answer(people, tmp_path, [1, 2], neighbours=1)) == [3]


def test_the_users_who_did_something_last_are_stored() -> None:
    people = events_of([1, 2], [3, 4], [], [5, 6], timestamps=[1, 50, 2, 3, 4, 40], n_items=80)
    stored = fit(people, users=2).items
    assert [sorted(stored[row].indices.tolist()) for row in range(stored.shape[0])] == [[1, 2], [5, 6]]
    assert fit(people).items.shape[0] == 3


def test_lists_are_those_of_the_definition(tmp_path: Path) -> None:
    people = crowd()
    channel = fit(people, neighbours=8, power=3)
    stage = opened(channel, tmp_path / "channel")
    members = channel.items.toarray().astype(np.float64)
    compared = 0
    for row in range(people.n_users):
        seen = people.user(row).tolist()
        mine = np.zeros(81)
        mine[seen] = 1
        cosine = members @ mine / np.sqrt(members.sum(axis=1) * mine.sum())
        cosine[members @ (1 - mine) == 0] = 0
        order = np.argsort(-cosine, kind="stable")
        if np.isclose(cosine[order[7]], cosine[order[8]]):
            continue  # either may vote
        scores = (cosine[order[:8]] ** 3) @ members[order[:8]]
        scores[seen] = 0
        found = stage(asks(seen))
        items = found["candidate"][0]
        best = np.sort(scores)[::-1][: SIZES.candidates]
        assert np.allclose(scores[items[items > 0]], best[best > 0], atol=1e-5)
        assert np.allclose(found["retrieval_score"][0][items > 0], best[best > 0], atol=1e-5)
        compared += 1
    assert compared > 20
