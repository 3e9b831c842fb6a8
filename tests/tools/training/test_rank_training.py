from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import HISTORY, features_of, rank_config

from tools.evaluation.metrics import ABSENT
from tools.training.candidates import PADDING_SCORE, RankingExamples
from tools.training.features import Features
from tools.training.rank_training import _draw_places, rank_logits, target_places, train_ranker

N_USERS, N_ITEMS, K = 9, 40, 12


@pytest.fixture(scope="module")
def features() -> Features:
    return features_of(N_USERS, N_ITEMS)


def examples_of(rows: int = 40) -> RankingExamples:
    """The next item is the candidate that follows the newest item in the catalogue, wherever it stands."""
    random = np.random.default_rng(0)
    histories = random.integers(1, N_ITEMS, (rows, HISTORY)).astype(np.int32)
    wanted = histories[:, -1] + 1
    candidates = np.stack([random.permutation(N_ITEMS)[:K] + 1 for _ in range(rows)]).astype(np.int32)
    targets = random.integers(0, K, rows)
    for row in range(rows):
        candidates[row][candidates[row] == wanted[row]] = candidates[row, targets[row]]
        candidates[row, targets[row]] = wanted[row]
    return RankingExamples(
        users=np.arange(rows) % N_USERS,
        histories=histories,
        candidates=candidates,
        scores=np.tile(-np.linspace(1, 3, K, dtype=np.float32), (rows, 1)),
        targets=targets,
    )


@given(st.integers(1, 12), st.integers(1, 14), st.integers(0, 1000))
def test_the_target_is_compared_first_and_no_place_twice(total: int, negatives: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.integers(0, total, 5)
    candidates = np.tile(np.arange(1, total + 1, dtype=np.int32), (5, 1))
    places, weight = _draw_places(candidates, targets, negatives, random)
    count = min(negatives, total - 1)
    assert places.shape == weight.shape == (5, 1 + count)
    assert weight.dtype == np.float32
    assert (places[:, 0] == targets).all()
    assert (weight[:, 0] == 0).all()
    for row in places.tolist():
        assert len(set(row)) == 1 + count
        assert set(row) <= set(range(total))


@given(st.integers(2, 12), st.integers(1, 14), st.integers(0, 1000))
def test_what_is_compared_stands_for_all_candidates(total: int, negatives: int, seed: int) -> None:
    """The weights of the others add up to how many others there are, whatever the target's place."""
    random = np.random.default_rng(seed)
    targets = np.arange(total)
    candidates = np.tile(np.arange(1, total + 1, dtype=np.int32), (total, 1))
    _, weight = _draw_places(candidates, targets, negatives, random)
    assert np.exp(weight[:, 1:]).sum(axis=1) == pytest.approx(np.full(total, total - 1), rel=1e-5)


def test_the_best_third_is_always_compared_and_the_others_equally_often() -> None:
    random, drawn = np.random.default_rng(0), Counter()
    candidates = np.tile(np.arange(1, 21, dtype=np.int32), (2000, 1))
    places, _ = _draw_places(candidates, np.full(2000, 10), 9, random)
    drawn.update(places[:, 1:].ravel().tolist())
    assert [drawn[place] for place in range(3)] == [2000] * 3
    others = [drawn[place] for place in range(3, 20) if place != 10]
    assert drawn[10] == 0
    assert sum(others) == 6 * 2000
    assert min(others) > 0.8 * max(others)


def test_training_lowers_the_loss_and_finds_what_the_retriever_did_not(features: Features) -> None:
    examples, seen = examples_of(200), []
    config = rank_config(width=16, epochs=30, learning_rate=0.02, batch=50, negatives=6)
    model, curve = train_ranker(
        examples,
        features,
        config,
        history=HISTORY,
        seed=1,
        validation=examples,
        progress=lambda done, total, text: seen.append((done, total)),
    )
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]
    assert curve[-1]["validation_ndcg_10"] > curve[0]["validation_ndcg_10"]
    before = target_places(examples.scores, examples)
    after = target_places(rank_logits(model, examples, features), examples)
    assert after.mean() < 0.5 * before.mean()
    assert seen == [(epoch, 30) for epoch in range(1, 31)]
    assert not model.training


def test_the_same_seed_trains_to_the_same_weights_and_another_does_not(features: Features) -> None:
    config, examples = rank_config(dropout=0.1, negatives=4), examples_of()
    first, again, other = (
        train_ranker(examples, features, config, history=HISTORY, seed=seed) for seed in (1, 1, 2)
    )
    states = [model.state_dict() for model, _ in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert first[1] == again[1]
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_examples_whose_next_item_was_not_retrieved_teach_nothing(features: Features) -> None:
    examples, config = examples_of(), rank_config()
    found = np.arange(40) < 20
    part = RankingExamples(*(getattr(examples, name)[found] for name in RankingExamples.__annotations__))
    lost = replace(examples, targets=np.where(found, examples.targets, -1))
    models = [train_ranker(one, features, config, history=HISTORY, seed=1)[0] for one in (part, lost)]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_with_nothing_to_learn_from_the_ranker_keeps_the_retrieval_order(features: Features) -> None:
    lost = replace(examples_of(), targets=np.full(40, -1))
    model, curve = train_ranker(lost, features, rank_config(), history=HISTORY, seed=1)
    assert curve == []
    assert np.array_equal(rank_logits(model, lost, features), lost.scores)


def test_padding_candidates_are_compared_with_nobody(features: Features) -> None:
    """Places without a candidate change neither the loss nor what is learned from it."""
    examples = examples_of()
    examples = replace(examples, targets=np.zeros(40, np.int64))
    examples.candidates[:, 1:], examples.scores[:, 1:] = 0, PADDING_SCORE
    _, curve = train_ranker(examples, features, rank_config(), history=HISTORY, seed=1)
    assert [row["loss"] for row in curve] == [0, 0]


def test_a_targets_place_is_its_rank_among_the_candidates() -> None:
    examples = RankingExamples(
        users=np.zeros(4, np.int64),
        histories=np.zeros((4, 1), np.int32),
        candidates=np.array([[5, 6, 7], [5, 6, 7], [5, 0, 0], [5, 6, 7]], np.int32),
        scores=np.zeros((4, 3), np.float32),
        targets=np.array([0, 2, 0, -1]),
    )
    scores = np.array([[1, 3, 2], [1, 3, 2], [-9, 5, 5], [1, 2, 3]], np.float32)
    assert target_places(scores, examples).tolist() == [2, 1, 0, ABSENT]
