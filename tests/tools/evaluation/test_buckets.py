"""How well those are served of whom, or of which, little is known."""

from __future__ import annotations

import numpy as np
import pytest

from tools.evaluation.buckets import cut_histories, history_buckets, unmet_items

RANKED = np.array([[1, 2, 3], [2, 1, 3], [3, 2, 1], [4, 2, 1], [5, 2, 1]])
POPULAR = np.tile([1, 2, 3], (5, 1))
TARGETS = np.array([1, 3, 3, 4, 0])
LENGTHS = np.array([0, 3, 4, 30, 7])


def test_users_are_told_apart_by_how_much_they_did() -> None:
    found = history_buckets(RANKED, POPULAR, TARGETS, LENGTHS, k=1, edges=(0, 1, 5, 20))
    assert [(bucket.name, bucket.targets) for bucket in found] == [
        ("no event", 1),
        ("1 to 4 events", 2),
        ("5 to 19 events", 0),  # there is one, but without a target
        ("20 events or more", 1),
        ("fewer than 5 events", 3),
    ]


def test_each_has_recall_and_ndcg_beside_popularity_s() -> None:
    _, few, nobody, many, new = history_buckets(RANKED, POPULAR, TARGETS, LENGTHS, k=1, edges=(0, 1, 5, 20))
    assert few.recall is not None
    assert few.recall.mean == pytest.approx(0.5)  # 3 is first for one of them, last for the other
    assert few.popularity_recall is not None
    assert few.popularity_recall.mean == 0
    assert few.ndcg_10 is not None
    assert few.ndcg_10.mean == pytest.approx((0.5 + 1) / 2)
    assert few.popularity_ndcg_10 is not None
    assert few.popularity_ndcg_10.mean == pytest.approx(0.5)
    assert nobody.recall is None
    assert not nobody.beats_popularity
    assert many.recall_gain is not None
    assert many.recall_gain.mean == 1
    assert new.recall is not None
    assert new.recall.mean == pytest.approx(2 / 3)


def test_to_beat_popularity_takes_more_than_chance() -> None:
    targets = np.array([7] * 50)
    alike, better = np.tile([1, 2], (50, 1)), np.tile([7, 2], (50, 1))
    lucky = alike.copy()
    lucky[0] = 7
    for lists, beats in ((alike, False), (lucky, False), (better, True)):
        (bucket, _) = history_buckets(lists, alike, targets, np.zeros(50), k=2, edges=(0,))
        assert bucket.beats_popularity is beats
        assert bucket.to_dict()["beats_popularity"] is beats


def test_items_that_nobody_has_met_are_targets_of_their_own() -> None:
    popularity = np.array([0, 9, 5, 4, 0, 0])
    found = unmet_items(RANKED, POPULAR, TARGETS, popularity, k=3)
    assert found.targets == 1
    assert found.recall is not None
    assert found.popularity_recall is not None
    assert (found.recall.mean, found.popularity_recall.mean) == (1, 0)
    assert unmet_items(RANKED, POPULAR, TARGETS, np.ones(6), k=3).targets == 0


def test_a_history_is_cut_to_its_newest_items() -> None:
    history = np.array([[0, 0, 1, 2], [3, 4, 5, 6]])
    assert cut_histories(history, 2).tolist() == [[0, 0, 1, 2], [0, 0, 5, 6]]
    assert cut_histories(history, 0).tolist() == [[0] * 4] * 2
    assert cut_histories(history, 9).tolist() == history.tolist()
    assert history[1].tolist() == [3, 4, 5, 6]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="lists are 3 long; recall at 10 needs 10 items"):
        history_buckets(RANKED, POPULAR, TARGETS, LENGTHS, k=10)
    with pytest.raises(ValueError, match=r"edges are \[5, 1\]"):
        history_buckets(RANKED, POPULAR, TARGETS, LENGTHS, k=1, edges=(5, 1))
    with pytest.raises(ValueError, match="newest is -1"):
        cut_histories(RANKED, -1)
