from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import HISTORY, features_of, interactions_of, random_interactions, rank_config, retrieve_config

from tools.data.interactions import Interactions
from tools.training.candidates import (
    PADDING_SCORE,
    RankingExamples,
    newest_counts,
    out_of_fold_examples,
    retrieved_examples,
)
from tools.training.features import Features
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import Retriever
from tools.training.windows import histories_before

N_USERS, N_ITEMS, K = 24, 30, 10


@pytest.fixture(scope="module")
def events() -> Interactions:
    return random_interactions(N_USERS, N_ITEMS)


@pytest.fixture(scope="module")
def features() -> Features:
    return features_of(N_USERS, N_ITEMS)


@pytest.fixture(scope="module")
def model(features: Features) -> Retriever:
    torch.manual_seed(0)
    model = Retriever(retrieve_config(), features, HISTORY)
    with torch.no_grad():
        model.items.identity.weight[1:].add_(torch.randn(N_ITEMS, 8))
        model.bias.add_(torch.randn(N_ITEMS + 1))
    return model


@pytest.fixture(scope="module")
def examples(model: Retriever, events: Interactions, features: Features) -> RankingExamples:
    """One for every event there is, in batches that are smaller than all of them."""
    every = np.arange(events.n_events)
    return retrieved_examples(model, events, features, every, history=HISTORY, candidates=K, batch=50)


def test_a_large_catalogue_gives_the_same_examples_by_its_index(
    model: Retriever, events: Interactions, features: Features, examples: RankingExamples
) -> None:
    every = np.arange(events.n_events)
    found = retrieved_examples(
        model, events, features, every, history=HISTORY, candidates=K, batch=50, index_from=1
    )
    assert np.array_equal(found.candidates, examples.candidates)
    assert np.array_equal(found.targets, examples.targets)
    assert np.allclose(found.scores, examples.scores, atol=1e-2)
    assert found.candidates.dtype == examples.candidates.dtype
    assert found.scores.dtype == examples.scores.dtype


def earlier_items(events: Interactions, event: int, user: int) -> list[int]:
    return events.items[events.offsets[user] : event].tolist()


# What a retriever would have returned.


def test_an_example_knows_its_user_and_what_the_user_did_before(
    examples: RankingExamples, events: Interactions
) -> None:
    users = np.repeat(np.arange(N_USERS), events.lengths)
    assert np.array_equal(examples.users, users)
    every = np.arange(events.n_events)
    assert np.array_equal(examples.histories, histories_before(events, users, every, HISTORY))


def test_candidates_are_the_best_unseen_items_in_order(
    examples: RankingExamples, events: Interactions, model: Retriever, features: Features
) -> None:
    for event in range(0, events.n_events, 7):
        user = int(examples.users[event])
        items = torch.from_numpy(examples.histories[event : event + 1]).long()
        with torch.no_grad():
            vectors = model.items()
            query = model.tower(torch.from_numpy(features.users[[user]]), items, vectors[items])[0, -1]
            logits = (query @ vectors.T + model.bias).numpy()
        seen = earlier_items(events, event, user)
        unseen = [item for item in range(1, N_ITEMS + 1) if item not in seen]
        best = sorted(unseen, key=lambda item: -logits[item])[:K]
        assert examples.candidates[event].tolist() == best
        surprise = np.log(np.exp(logits[unseen]).sum())
        assert examples.scores[event] == pytest.approx(logits[best] - surprise, abs=1e-4)


def test_seen_items_and_padding_are_no_candidates(examples: RankingExamples, events: Interactions) -> None:
    for event, row in enumerate(examples.candidates.tolist()):
        assert not set(row) & {0, *earlier_items(events, event, int(examples.users[event]))}
        assert len(set(row)) == K


def test_scores_are_log_probabilities(model: Retriever, events: Interactions, features: Features) -> None:
    some = np.array([3, 40, 90])
    everything = retrieved_examples(model, events, features, some, history=HISTORY, candidates=N_ITEMS)
    assert np.exp(everything.scores).sum(axis=1) == pytest.approx([1, 1, 1], rel=1e-4)
    assert (np.diff(everything.scores, axis=1) <= 0).all()


def test_a_target_is_the_place_of_what_came_next(examples: RankingExamples, events: Interactions) -> None:
    found = examples.targets >= 0
    assert 0 < found.sum() < len(found)
    rows = np.flatnonzero(found)
    assert np.array_equal(examples.candidates[rows, examples.targets[rows]], events.items[rows])
    for row in np.flatnonzero(~found):
        assert events.items[row] not in examples.candidates[row]


def test_fewer_items_than_candidates_are_filled_with_padding(model: Retriever, features: Features) -> None:
    """Somebody has seen 26 of 30 items, so that 4 are left for 10 places."""
    walk = interactions_of(list(range(1, 28)), n_items=N_ITEMS)
    last = np.array([26])
    example = retrieved_examples(model, walk, features, last, history=HISTORY, candidates=K)
    assert sorted(example.candidates[0, :4].tolist()) == [27, 28, 29, 30]
    assert not example.candidates[0, 4:].any()
    assert (example.scores[0, 4:] == PADDING_SCORE).all()
    assert np.isfinite(example.scores).all()
    assert example.candidates[0, example.targets[0]] == 27


def test_no_events_are_no_examples(model: Retriever, events: Interactions, features: Features) -> None:
    nothing = np.zeros(0, dtype=np.int64)
    none = retrieved_examples(model, events, features, nothing, history=HISTORY, candidates=K)
    assert [getattr(none, name).shape for name in ("users", "histories", "candidates", "targets")] == [
        (0,),
        (0, HISTORY),
        (0, K),
        (0,),
    ]


# Which events the ranker learns from.


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.floats(0.05, 0.95), st.integers(1, 300))
def test_everybodys_newest_share_up_to_a_limit(lengths: list[int], newest: float, limit: int) -> None:
    events = interactions_of(*([1] * length for length in lengths), n_items=1)
    shares = (np.array(lengths) * newest).astype(int)
    counts = newest_counts(events, rank_config(newest=newest, examples=limit))
    assert counts.dtype == np.int64
    assert counts.sum() == min(shares.sum(), limit)
    assert (counts <= shares).all()
    assert (np.abs(counts - shares * min(1, limit / max(shares.sum(), 1))) < 1 + 1e-9).all()


def test_the_limit_is_used_up_even_where_everybodys_share_is_below_one() -> None:
    events = interactions_of(*([1] * 10 for _ in range(1000)), n_items=1)
    counts = newest_counts(events, rank_config(newest=0.3, examples=100))
    assert counts.sum() == 100
    assert counts.max() == 1


def folded(events: Interactions, **changes: object) -> tuple[RankingExamples, list[dict[str, float]]]:
    return out_of_fold_examples(
        events,
        features_of(events.n_users, N_ITEMS),
        retrieve_config(**changes),
        rank_config(newest=0.3),
        history=HISTORY,
        candidates=K,
        seed=1,
    )


def test_examples_are_each_users_newest_events(events: Interactions) -> None:
    examples, _ = folded(events)
    counts = newest_counts(events, rank_config(newest=0.3))
    assert np.array_equal(np.bincount(examples.users, minlength=N_USERS), counts)
    newest = np.concatenate(
        [np.arange(end - n, end) for end, n in zip(events.offsets[1:], counts, strict=True)]
    )
    assert np.array_equal(examples.histories, histories_before(events, examples.users, newest, HISTORY))


def test_the_retriever_of_the_examples_has_seen_nothing_of_the_answers(events: Interactions) -> None:
    """Exchange every newer event: what is retrieved before the first of them stays the same, to the bit."""
    counts = newest_counts(events, rank_config(newest=0.3))
    place = np.arange(events.n_events) - np.repeat(events.offsets[:-1], events.lengths)
    newer = place >= np.repeat(events.lengths - counts, events.lengths)
    other = replace(events, items=np.where(newer, events.items % N_ITEMS + 1, events.items).astype(np.int32))
    (one, _), (two, _) = folded(events), folded(other)
    first = np.concatenate([[True], np.diff(one.users) > 0])
    assert not np.array_equal(one.targets, two.targets)
    assert np.array_equal(one.candidates[first], two.candidates[first])
    assert np.array_equal(one.scores[first], two.scores[first])


def test_a_habit_that_only_the_newest_events_show_is_not_known_to_the_examples() -> None:
    """Everybody goes from 29 to 30 at the end: a retriever of all events knows, the examples' cannot."""
    random = np.random.default_rng(0)
    walks = [[*(random.permutation(28)[:6] + 1).tolist(), 29, 30] for _ in range(N_USERS)]
    events, learned = interactions_of(*walks, n_items=N_ITEMS), {"epochs": 40, "learning_rate": 0.02}
    examples, curve = folded(events, **learned)
    features = features_of(N_USERS, N_ITEMS)
    knowing, _ = train_retriever(events, features, retrieve_config(**learned), history=HISTORY, seed=1)
    after_29 = np.flatnonzero(events.items == 30)
    told = retrieved_examples(knowing, events, features, after_29, history=HISTORY, candidates=K)
    assert (told.targets == 0).all()
    assert not (examples.targets[examples.histories[:, -1] == 29] == 0).any()
    assert curve[-1]["validation_ndcg_10"] < 0.3


def test_the_curve_is_measured_on_what_was_not_trained_on(events: Interactions) -> None:
    _, curve = folded(events)
    assert len(curve) == 2
    assert 0 <= curve[-1]["validation_ndcg_10"] <= 1


def test_the_same_seed_gives_the_same_examples(events: Interactions) -> None:
    (one, first), (two, second) = folded(events, dropout=0.1), folded(events, dropout=0.1)
    assert np.array_equal(one.candidates, two.candidates)
    assert np.array_equal(one.scores, two.scores)
    assert first == second


def test_users_with_too_few_events_give_no_examples_and_no_error() -> None:
    """Three events each: a third of them, rounded down, is none."""
    events = interactions_of(*([row + 1, row + 2, row + 3] for row in range(N_USERS)), n_items=N_ITEMS)
    examples, curve = folded(events)
    assert len(examples.users) == 0
    assert [sorted(row) for row in curve] == [["epoch", "loss"]] * 2
