"""The graphs for a GPU answer like those of the local profile, up to the rounding of their precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy import features_of, rank_config, retrieve_config
from tritonrec_client.contract import Sizes

from python_backend.item_index import PADDING_SCORE
from tools.training.evidence import Evidence, Neighbours
from tools.training.export import RankGraph, RetrieveGraph, made_up_inputs
from tools.training.gpu_graphs import (
    MOST_SELECTED,
    GpuEvidence,
    GpuRankGraph,
    GpuRetrieveGraph,
    GpuSearchGraph,
    Precision,
    block_size,
    top_of_blocks,
)
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

N_ITEMS = 300
SIZES = Sizes(candidates=12, results=5, history=6, seen=40, session=2, user_features=2)
FEATURES = features_of(9, N_ITEMS)
ROUNDING: dict[Precision, float] = {"fp32": 1e-5, "fp16": 1e-3, "bf16": 2e-2}
PRECISIONS = list(ROUNDING)


def moved_from_its_start(model: torch.nn.Module) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for embedding in model.modules():
            if isinstance(embedding, torch.nn.Embedding):
                embedding.weight[0] = 0
    return model.eval()


def retriever() -> Retriever:
    torch.manual_seed(0)
    return moved_from_its_start(Retriever(retrieve_config(), FEATURES, SIZES.history))


def neighbours(items: int, count: int, seed: int = 0) -> Neighbours:
    """So many distinct neighbours of each item, some without a weight, none of padding."""
    random = np.random.default_rng(seed)
    of = np.stack([random.permutation(items + 1)[:count] for _ in range(items + 1)]).astype(np.int32)
    weights = random.normal(size=of.shape).astype(np.float32)
    weights[(of == 0) | (random.random(of.shape) < 0.2)] = 0
    weights[0] = 0
    return Neighbours(of, weights)


def ranker() -> Ranker:
    torch.manual_seed(1)
    model = moved_from_its_start(Ranker(rank_config(), FEATURES, SIZES.history, neighbours(N_ITEMS, 40)))
    unmet = np.zeros(N_ITEMS + 1, bool)
    unmet[5:60] = True
    model.evidence.leave_out(unmet)
    return model


def inputs_of(stage: str, rows: int) -> dict[str, Tensor]:
    made_up = made_up_inputs(stage, FEATURES, SIZES, rows)
    return {name: torch.from_numpy(array) for name, array in made_up.items()}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rows", [1, 7])
@torch.no_grad()
def test_retrieval_finds_the_same_items_with_the_same_scores(precision: Precision, rows: int) -> None:
    inputs, model = inputs_of("retrieve", rows), retriever()
    items, scores = RetrieveGraph(model, SIZES).eval()(**inputs)

    graph = GpuRetrieveGraph(model, SIZES, precision).eval()
    found, found_scores = graph(**inputs)

    assert graph.search.block > 1
    assert found.dtype == torch.int32
    assert torch.allclose(found_scores, scores, rtol=ROUNDING[precision], atol=ROUNDING[precision])
    if precision == "fp32":
        assert found.tolist() == items.tolist()


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.no_grad()
def test_the_scores_are_float32_for_the_query_there_is(precision: Precision) -> None:
    model = retriever()
    query, seen = 0.3 * torch.randn(4, 8), torch.zeros(4, 3, dtype=torch.int32)
    plain = GpuSearchGraph(model, SIZES, "fp32")(query, seen)

    rounded = GpuSearchGraph(model, SIZES, precision)(query, seen)

    assert rounded[0].tolist() == plain[0].tolist()
    assert torch.allclose(rounded[1], plain[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_that_is_seen_comes_back_and_empty_places_say_so(precision: Precision) -> None:
    sizes = Sizes(**{**SIZES.to_dict(), "seen": N_ITEMS})
    inputs = inputs_of("retrieve", 2) | {"seen": torch.zeros(2, N_ITEMS, dtype=torch.int32)}
    inputs["seen"][0] = torch.arange(1, N_ITEMS + 1)
    inputs["seen"][1, : N_ITEMS - 4] = torch.arange(5, N_ITEMS + 1)

    with torch.no_grad():
        items, scores = GpuRetrieveGraph(retriever(), sizes, precision).eval()(**inputs)

    assert items[0].tolist() == [0] * 12
    assert sorted(items[1].tolist()) == [0] * 8 + [1, 2, 3, 4]
    assert (scores[items == 0] == PADDING_SCORE).all()
    assert scores[1, :4].exp().sum() == pytest.approx(1, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 40), st.integers(0, 5), st.integers(0, 10**6))
def test_the_best_of_two_levels_are_the_best_of_all(n: int, count: int, power: int, seed: int) -> None:
    size = 2**power
    n = -max(n, count) // size * -size
    # Few different values, so that many tie.
    scores = torch.randint(0, 20, (3, n), generator=torch.Generator().manual_seed(seed)).float()
    scores[scores < 3] = -torch.inf
    blocks = scores.reshape(3, -1, size)

    values, places = top_of_blocks(blocks, blocks.amax(dim=-1), count)

    assert values.tolist() == scores.topk(count).values.tolist()
    assert scores.gather(1, places).tolist() == values.tolist()
    assert all(len(set(row)) == count for row in places.tolist())


def test_blocks_are_as_large_as_keeps_both_levels_small() -> None:
    assert block_size(1683, 500) == 1
    for n in (100_000, 10_000_000):
        size = block_size(n, 1000)
        assert 0.25 < (n / size) / (1000 * size) < 4


def test_more_candidates_than_tensorrt_selects_are_refused() -> None:
    sizes = Sizes(**{**SIZES.to_dict(), "candidates": MOST_SELECTED + 1})
    with pytest.raises(ValueError, match=r"candidates is 3841; .* at most 3840"):
        GpuRetrieveGraph(retriever(), sizes)


def test_vectors_that_half_precision_cannot_hold_are_refused() -> None:
    model = retriever()
    with torch.no_grad():
        model.items.identity.weight[7, 0] = 1e6
    with pytest.raises(ValueError, match="beyond float16's 65504; use precision fp32"):
        GpuRetrieveGraph(model, SIZES, "fp16")


@pytest.mark.parametrize("pairs_up_to", [10**6, 0], ids=["table of pairs", "binary search"])
@settings(max_examples=25, deadline=None)
@given(items=st.integers(1, 60), count=st.integers(1, 61), seed=st.integers(0, 10**6))
def test_evidence_is_that_of_scattered_sums(pairs_up_to: int, items: int, count: int, seed: int) -> None:
    evidence = Evidence(neighbours(items, min(count, items + 1), seed))
    random = torch.Generator().manual_seed(seed)
    # With items that repeat, and places without any.
    history = torch.randint(0, items + 1, (3, 7), generator=random, dtype=torch.int32)
    candidates = torch.randint(0, items + 1, (3, 9), generator=random, dtype=torch.int32)
    scores = torch.randn(3, 9, generator=random)
    evidence.leave_out(np.arange(items + 1) % 5 == 4)

    found = GpuEvidence(evidence, pairs_up_to)(history, candidates, scores)

    wanted = evidence.completed(evidence(history, candidates), candidates, scores)
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_no_evidence_stays_none_and_a_neighbour_named_twice_is_refused() -> None:
    none = GpuEvidence(Evidence(Neighbours.none(5)))
    ones = torch.ones(2, 3, dtype=torch.int32)
    assert none(ones, ones, ones.float()).tolist() == [[0.0] * 3] * 2
    twice = Neighbours(np.array([[0, 0], [2, 2]], np.int32), np.array([[0, 0], [1, 1]], np.float32))
    with pytest.raises(ValueError, match="names an item twice"):
        GpuEvidence(Evidence(twice))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("pairs_up_to", [10**6, 0], ids=["table of pairs", "binary search"])
@torch.no_grad()
def test_ranking_gives_the_same_scores(precision: Precision, pairs_up_to: int) -> None:
    inputs, model = inputs_of("rank", 5), ranker()
    inputs["candidate"][2, 4:] = 0
    inputs["retrieval_score"][2, 4:] = PADDING_SCORE
    wanted = RankGraph(model).eval()(**inputs)

    found = GpuRankGraph(model, precision, pairs_up_to=pairs_up_to).eval()(**inputs)

    assert found.dtype == torch.float32
    scale = 3 * ROUNDING[precision]
    assert torch.allclose(found, wanted, rtol=scale, atol=scale)
    assert (found[2, 4:] == PADDING_SCORE).all()
