from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from tritonrec_client.contract import Sizes

from python_backend.plan import Plan, Port, Step
from tools.evaluation import metrics
from tools.table.few_events import few_events_of, section_of
from tools.table.rows import Answer, Ground, answers_of, clicks_of, differences, row_of

USERS, ITEMS = 40, 30


@pytest.fixture
def ground() -> Ground:
    random = np.random.default_rng(0)
    targets = random.integers(0, ITEMS + 1, USERS).astype(np.int32)
    popularity = np.concatenate([[0], random.integers(1, 50, ITEMS)])
    return Ground(targets, popularity, random.normal(size=(ITEMS + 1, 4)))


def lists(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.argsort(random.random((USERS, ITEMS)), axis=1).astype(np.int32) + 1


def test_a_channels_row_is_of_its_list_as_it_is(ground: Ground) -> None:
    found = lists()
    row = row_of(Answer("ease", "ease", "channel", found, np.zeros(found.shape, np.float32)), ground)
    ranks = metrics.ranks(found, ground.targets)
    assert row["ndcg_10"]["mean"] == pytest.approx(metrics.ndcg(ranks, 10).mean())
    assert row["coverage"] == metrics.coverage(found, 20, ITEMS)
    assert row["clicks"] is None


def test_a_rankers_row_is_of_the_candidates_in_the_order_of_its_scores(ground: Ground) -> None:
    found = lists()
    scores = -found.astype(np.float32)
    row = row_of(Answer("dnn", "dnn", "ranker", found, scores, "each"), ground)
    ranks = metrics.ranks(np.sort(found, axis=1), ground.targets)
    assert row["mrr_10"]["mean"] == pytest.approx(metrics.mrr(ranks, 10).mean())


def test_padding_is_last_whatever_it_scores() -> None:
    answer = Answer("dnn", "dnn", "ranker", np.array([[0, 7, 5]]), np.array([[9.0, 1.0, 2.0]], np.float32))
    assert answer.lists.tolist() == [[5, 7, 0]]


def test_a_list_that_is_too_short_has_no_such_figure(ground: Ground) -> None:
    found = lists()
    row = row_of(Answer("ease", "ease", "channel", found, np.zeros(found.shape, np.float32)), ground)
    assert row["recall_10"] is not None
    assert row["recall_100"] is None


def test_the_scores_of_a_pointwise_ranker_are_logits_and_those_of_the_main_one_a_list() -> None:
    scores = np.array([[0.0, 2.0]], np.float32)
    candidates = np.array([[1, 2]])
    each = Answer("dnn", "dnn", "ranker", candidates, scores, "each").probabilities
    whole = Answer("main", "main", "ranker", candidates, scores, "list").probabilities
    assert each is not None
    assert whole is not None
    assert each == pytest.approx(expit(scores))
    assert whole.sum() == pytest.approx(1.0)


def test_clicks_are_of_candidates_of_users_with_a_target_alone() -> None:
    ground = Ground(np.array([2, 0], dtype=np.int32), np.ones(4), np.ones((4, 2)))
    candidates = np.array([[2, 1, 0], [1, 2, 3]], dtype=np.int32)
    figures = clicks_of(candidates, np.array([[0.9, 0.2, 0.9], [0.5, 0.5, 0.5]]), ground)
    assert figures["pairs"] == 2
    assert (figures["auc"], figures["accuracy"]) == (1.0, 1.0)
    assert figures["base_log_loss"] == pytest.approx(np.log(2))


def test_the_base_rate_is_as_accurate_as_saying_no() -> None:
    ground = Ground(np.array([1], dtype=np.int32), np.ones(5), np.ones((5, 2)))
    figures = clicks_of(np.array([[1, 2, 3, 4]], dtype=np.int32), np.full((1, 4), 0.25), ground)
    assert figures["base_accuracy"] == figures["accuracy"] == 0.75
    assert figures["log_loss"] == pytest.approx(figures["base_log_loss"])


def test_a_difference_to_oneself_is_nothing(ground: Ground) -> None:
    found = lists()
    gaps = differences(found, {"itself": found, "another": lists(1)}, ground.targets, "ndcg_10")
    assert gaps["itself"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert gaps["another"]["low"] < gaps["another"]["high"]


def test_every_model_of_a_plan_answers_under_its_own_name() -> None:
    plan = Plan.default(Sizes(candidates=3, results=2))
    tensors = {
        "candidate": np.array([[3, 1, 2]], np.int32),
        "retrieval_score": np.array([[3.0, 2.0, 1.0]], np.float32),
        "rank_score": np.array([[1.0, 2.0, 3.0]], np.float32),
    }
    retrieve, rank = answers_of(plan, tensors, {"rank": "list"})
    assert (retrieve.name, retrieve.kind, retrieve.lists.tolist()) == ("retrieve", "channel", [[3, 1, 2]])
    assert (rank.name, rank.kind, rank.lists.tolist()) == ("rank", "ranker", [[2, 1, 3]])
    assert rank.link == "list"


def test_what_visitors_with_few_events_find_is_held_against_popularity() -> None:
    targets = np.full(50, 1, dtype=np.int32)
    good, poor = np.tile([[1, 2]], (50, 1)).astype(np.int32), np.tile([[3, 2]], (50, 1)).astype(np.int32)
    sizes = Sizes(candidates=2, results=2)
    steps = [
        Step(
            model=f"retrieve_{name}",
            stage="retrieve",
            inputs=(),
            outputs=(
                Port("candidate", f"candidate_{name}", "INT32", 2),
                Port("retrieval_score", f"score_{name}", "FP32", 2),
            ),
            candidates=sizes.candidates,
        )
        for name in ("ease", "popularity")
    ]
    tensors = {
        "candidate_ease": good,
        "candidate_popularity": poor,
        "score_ease": np.zeros((50, 2), np.float32),
        "score_popularity": np.zeros((50, 2), np.float32),
    }
    few = few_events_of(Plan(tuple(steps)), {}, {0: tensors, 1: tensors}, targets)
    ease, popular = few["buckets"][0]["models"]
    assert (ease["recall"], popular["recall"]) == (1.0, 0.0)
    assert ease["over_popularity"]["low"] == 1.0
    assert "over_popularity" not in popular
    section = section_of(few)
    assert section["headings"] == ["Model", "no event", "1 event"]
    assert section["lines"][0][:2] == ["ease (channel)", "1.000 (+1.000 to +1.000)"]
