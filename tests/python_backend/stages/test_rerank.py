"""`rerank` without an operator's rules; what the shop sells is described in shop.py."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shop import (
    AXES,
    CANDIDATES,
    LIFT,
    LIFT_WEIGHT,
    N_ITEMS,
    RESULTS,
    SIMILARITY_WEIGHT,
    Ask,
    batch_of,
    make_release,
    page,
    pages,
)
from tritonrec_client.contract import Reason, Status

from python_backend.stages.base import InvalidRequest
from python_backend.stages.rerank import Catalogue, Rerank

EIGHT = Ask([5, 3, 8, 1, 2, 9, 4, 7], [8, 7, 6, 5, 4, 3, 2, 1])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Rerank:
    return Rerank.load(make_release(tmp_path_factory.mktemp("shop")), {})


@st.composite
def requests(draw: st.DrawFn) -> Ask:
    """Any request: few or no candidates, ties, seen items among them, known and unknown users."""
    items = draw(st.lists(st.integers(1, N_ITEMS), unique=True, max_size=CANDIDATES))
    logits = draw(st.lists(st.integers(-8, 8), min_size=len(items), max_size=len(items)))
    return Ask(
        items,
        [logit / 4 for logit in logits],
        diversity=draw(st.integers(0, 8)) / 8,
        seen=draw(st.lists(st.integers(1, N_ITEMS), unique=True, max_size=6)),
        history=draw(st.sampled_from([(), (3,), (1, 2, 3)])),
        lookup_status=draw(st.sampled_from([0, Status.UNKNOWN_USER, Status.STORE_UNAVAILABLE])),
    )


def test_a_page_holds_the_best_items_with_their_wire_ids(stage: Rerank) -> None:
    answer = stage(batch_of(EIGHT))
    assert {name: (array.shape, array.dtype) for name, array in answer.items()} == {
        "item_id": ((1, RESULTS), np.int64),
        "score": ((1, RESULTS), np.float32),
        "reason": ((1, RESULTS), np.int32),
        "channel": ((1, RESULTS), np.int32),
        "because": ((1, RESULTS), np.int64),
        "propensity": ((1, RESULTS), np.float32),
        "status": ((1, 1), np.int32),
    }
    assert answer["item_id"].tolist() == [[105, 103, 108, 101]]
    assert answer["status"].tolist() == [[Status.OK]]


def test_no_diversity_is_the_rankers_order_whatever_the_retriever_said(stage: Rerank) -> None:
    assert page(stage, replace(EIGHT, logits=[1, 2, 3, 4, 5, 6, 7, 8])).items == [7, 4, 9, 2]


def test_no_diversity_keeps_the_order_of_ties(stage: Rerank) -> None:
    assert page(stage, replace(EIGHT, logits=[1, 2, 2, 2, 1, 2, 1, 0])).items == [3, 8, 1, 9]
    assert page(stage, replace(EIGHT, logits=[0] * 8)).items == [5, 3, 8, 1]


@given(requests())
def test_no_diversity_is_a_stable_sort_of_what_may_be_shown(stage: Rerank, ask: Ask) -> None:
    ask = replace(ask, diversity=0.0)
    shown = [pair for pair in zip(ask.items, ask.logits, strict=True) if pair[0] not in ask.seen]
    best = [item for item, _ in sorted(shown, key=lambda pair: -pair[1])][:RESULTS]
    found = page(stage, ask)
    assert found.items == best + [0] * (RESULTS - len(best))
    assert Reason.VARIETY not in found.reasons


def test_diversity_passes_over_what_is_like_the_items_above(stage: Rerank) -> None:
    alike = Ask([1, 2, 3, 4], [4, 3.75, 3.5, 3])
    assert page(stage, replace(alike, diversity=0.0)).items == [1, 2, 3, 4]
    # Items 1, 2 and 3 are alike, 4 is not.
    assert page(stage, replace(alike, diversity=0.5)).items == [1, 4, 2, 3]


def test_being_like_two_items_above_costs_no_more_than_being_like_one(stage: Rerank) -> None:
    assert page(stage, Ask([1, 2, 3, 4], [10, 9, 8, 6.5], diversity=0.5)).items == [1, 2, 3, 4]


def test_diversity_lifts_what_is_hardly_ever_shown(stage: Rerank) -> None:
    known_and_new = Ask([1, 11, 9, 12], [4, 3.5, 3.25, 0])
    assert page(stage, replace(known_and_new, diversity=1.0)).items == [11, 9, 1, 12]


@given(requests())
def test_every_place_goes_to_the_highest_marginal_relevance(stage: Rerank, ask: Ask) -> None:
    """A plain loop over the definition finds the same page, and why its items are there."""
    logits = {i: logit for i, logit in zip(ask.items, ask.logits, strict=True) if i not in ask.seen}
    by_score = sorted(logits.values(), reverse=True)[:RESULTS]
    chosen: list[int] = []
    while len(chosen) < min(RESULTS, len(logits)):
        values = {}
        for item, logit in logits.items():
            alike = any(AXES[item - 1] == AXES[other - 1] for other in chosen)
            change = LIFT_WEIGHT * LIFT[item - 1] - SIMILARITY_WEIGHT * alike
            values[item] = logit + ask.diversity * change
        chosen.append(max((item for item in logits if item not in chosen), key=lambda item: values[item]))
    reason = Reason.HISTORY if any(ask.history) else Reason.POPULAR
    found = page(stage, ask)
    assert found.items == chosen + [0] * (RESULTS - len(chosen))
    for item, given_reason in zip(chosen, found.reasons, strict=False):
        assert given_reason == (Reason.VARIETY if logits[item] < by_score[-1] else reason)


def test_more_diversity_gives_more_varied_pages_on_average() -> None:
    random = np.random.default_rng(0)
    users, items, width = 100, 300, 8
    vectors = random.normal(size=(items + 1, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[0] = 0
    catalogue = Catalogue(
        np.arange(-1, items, dtype=np.int64),
        vectors,
        random.random(items + 1, dtype=np.float32),
        np.zeros((items + 1, 1), np.int32),
        {},
    )
    stage = Rerank(catalogue, 10, similarity_weight=2.0, lift_weight=0.0)
    candidate = np.argsort(random.random((users, items)))[:, :100].astype(np.int32) + 1
    inputs = {
        "candidate": candidate,
        # Scores follow one direction of taste, so the best items are alike.
        "rank_score": 3 * vectors[candidate] @ vectors[1],
        "history": np.ones((users, 1), np.int32),
        "seen": np.zeros((users, 1), np.int32),
        "lookup_status": np.zeros((users, 1), np.int32),
    }
    distances, lists = [], []
    for diversity in (0.0, 0.1, 0.3, 0.6, 1.0):
        answer = stage({**inputs, "diversity": np.full((users, 1), diversity, np.float32)})
        shown = vectors[answer["item_id"] + 1]
        pairs = [1 - (shown[:, a] * shown[:, b]).sum(-1) for a, b in combinations(range(10), 2)]
        distances.append(float(np.mean(pairs)))
        lists.append(answer["item_id"])
    assert distances == sorted(distances)
    assert distances[-1] > 1.1 * distances[0]
    changed = [(more != lists[0]).any(axis=1).mean() for more in lists[1:]]
    assert changed == sorted(changed)
    assert changed[-1] == 1


@given(requests())
def test_a_seen_item_never_returns_even_if_it_was_retrieved(stage: Rerank, ask: Ask) -> None:
    assert not set(page(stage, ask).items) & set(ask.seen)


@given(requests())
def test_a_page_is_full_or_says_that_it_is_short(stage: Rerank, ask: Ask) -> None:
    left = min(len(set(ask.items) - set(ask.seen)), RESULTS)
    found = page(stage, ask)
    assert all(found.items[:left])
    assert len(set(found.items[:left])) == left
    assert found.items[left:] == [0] * (RESULTS - left)
    assert found.scores[left:] == [0] * (RESULTS - left)
    assert found.reasons[left:] == [Reason.PADDING] * (RESULTS - left)
    assert Reason.PADDING not in found.reasons[:left]
    assert found.status == ask.lookup_status | (Status.SHORT_PAGE if left < RESULTS else 0)


def test_padding_travels_as_minus_one(stage: Rerank) -> None:
    assert stage(batch_of(Ask([5, 3], [1, 0])))["item_id"].tolist() == [[105, 103, -1, -1]]


def test_a_request_of_zeros_as_triton_warms_up_with_gets_an_empty_page(stage: Rerank) -> None:
    zeros = {name: np.zeros_like(array) for name, array in batch_of(EIGHT, EIGHT).items()}
    answer = stage(zeros)
    assert (answer["item_id"] == -1).all()
    assert (answer["status"] == Status.SHORT_PAGE).all()
    assert not answer["score"].any()
    assert not answer["reason"].any()


def test_an_item_is_there_because_of_the_history_or_else_because_it_is_popular(stage: Rerank) -> None:
    assert page(stage, EIGHT).reasons == [Reason.HISTORY] * RESULTS
    assert page(stage, replace(EIGHT, history=())).reasons == [Reason.POPULAR] * RESULTS


def test_only_what_score_alone_would_not_show_is_there_for_variety(stage: Rerank) -> None:
    varied = page(stage, Ask([1, 2, 3, 8, 4, 5], [4, 3.75, 3.5, 3.25, 3, 2.75], diversity=0.75))
    assert varied.items == [1, 8, 4, 2]
    assert varied.reasons == [Reason.HISTORY, Reason.HISTORY, Reason.VARIETY, Reason.HISTORY]


@pytest.mark.parametrize("diversity", [0.0, 1.0])
def test_scores_are_probabilities_among_the_allowed_candidates(stage: Rerank, diversity: float) -> None:
    ask = replace(EIGHT, seen=[5, 4], diversity=diversity)
    weights = {i: math.exp(v) for i, v in zip(ask.items, ask.logits, strict=True) if i not in (5, 4)}
    found = page(stage, ask)
    expected = [weights[item] / sum(weights.values()) for item in found.items]
    assert found.scores == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shift", [-9000, 9000])
def test_scores_do_not_depend_on_where_logits_are_centred(stage: Rerank, shift: float) -> None:
    moved = replace(EIGHT, logits=[logit + shift for logit in EIGHT.logits])
    assert page(stage, moved) == page(stage, EIGHT)


@given(st.lists(requests(), min_size=1, max_size=6))
def test_a_batch_is_its_requests_one_by_one(stage: Rerank, asks: list[Ask]) -> None:
    assert pages(stage, *asks) == [page(stage, ask) for ask in asks]


def test_an_empty_batch_gives_empty_answers(stage: Rerank) -> None:
    assert {len(array) for array in stage(batch_of()).values()} == {0}


@pytest.mark.parametrize("diversity", [0.0, 1.0])
def test_any_diversity_from_0_to_1_is_allowed(stage: Rerank, diversity: float) -> None:
    stage.check(batch_of(replace(EIGHT, diversity=diversity)))


@pytest.mark.parametrize("diversity", [-0.01, 1.01, math.inf, -math.inf, math.nan])
def test_another_diversity_is_refused_by_name(stage: Rerank, diversity: float) -> None:
    with pytest.raises(InvalidRequest, match=r"diversity: found .*; allowed is a number from 0 to 1") as no:
        stage.check(batch_of(EIGHT, replace(EIGHT, diversity=diversity)))
    assert no.value.field == "diversity"


def test_a_request_leaves_no_trace_in_its_inputs(stage: Rerank) -> None:
    inputs = batch_of(replace(EIGHT, diversity=1.0, seen=[5]))
    before = {name: array.copy() for name, array in inputs.items()}
    for array in inputs.values():
        array.flags.writeable = False  # as Triton hands them over
    stage(inputs)
    assert all(np.array_equal(inputs[name], before[name]) for name in inputs)
