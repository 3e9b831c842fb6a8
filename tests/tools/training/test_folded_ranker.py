from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy import features_of, rank_config
from tritonrec_client.contract import Sizes

from python_backend.graph import Graph
from tools.training.candidates import PADDING_SCORE
from tools.training.evidence import Evidence, Neighbours
from tools.training.export import GraphMismatch, RankGraph, export_graph, export_rank, made_up_inputs
from tools.training.folded_ranker import FoldedRankGraph
from tools.training.ranker import Ranker

N_USERS, N_ITEMS = 9, 40
SIZES = Sizes(candidates=20, results=5, history=6, seen=N_ITEMS, session=2, user_features=2)
FEATURES = features_of(N_USERS, N_ITEMS)


def neighbours() -> Neighbours:
    """Five of each item, in one row twice the same."""
    random = np.random.default_rng(0)
    items = np.stack([random.permutation(N_ITEMS)[:5] + 1 for _ in range(N_ITEMS + 1)]).astype(np.int32)
    weights = random.normal(size=items.shape).astype(np.float32)
    items[3, 1] = items[3, 0]
    weights[0] = 0
    return Neighbours(items, weights)


def ranker(evidence: bool = True, **changes: object) -> Ranker:
    """A ranker in which every weight says something."""
    torch.manual_seed(1)
    config = rank_config(shrinkage=0.7, dropout=0.3, **changes)
    model = Ranker(config, FEATURES, SIZES.history, neighbours() if evidence else None)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


@torch.no_grad()
def answers(graph: torch.nn.Module, rows: int = 5) -> torch.Tensor:
    inputs = {
        name: torch.from_numpy(array) for name, array in made_up_inputs("rank", FEATURES, SIZES, rows).items()
    }
    inputs["candidate"][-1, 15:], inputs["retrieval_score"][-1, 15:] = 0, PADDING_SCORE
    found: torch.Tensor = graph.eval()(**inputs)
    return found


@pytest.mark.parametrize("crosses", [0, 1, 2, 3])
@pytest.mark.parametrize("evidence", [True, False])
def test_folding_changes_nothing(crosses: int, evidence: bool) -> None:
    model = ranker(evidence, crosses=crosses)
    torch.testing.assert_close(
        answers(FoldedRankGraph(model)), answers(RankGraph(model)), rtol=1e-5, atol=1e-5
    )


def test_evidence_is_the_same_from_a_table_of_pairs_and_without_one() -> None:
    model = ranker()
    table, scattered = FoldedRankGraph(model), FoldedRankGraph(model, tables_up_to=N_ITEMS)
    assert table.pairs is not None
    assert scattered.pairs is None
    torch.testing.assert_close(answers(table), answers(scattered), rtol=1e-5, atol=1e-5)


def test_items_that_nobody_has_met_are_filled_in_for_as_before() -> None:
    model = ranker()
    before = answers(FoldedRankGraph(model))
    model.evidence.leave_out(np.arange(N_ITEMS + 1) % 3 == 1)
    after = answers(FoldedRankGraph(model))
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, answers(RankGraph(model)), rtol=1e-5, atol=1e-5)


def test_evidence_that_is_the_same_for_all_candidates_counts_for_none(tmp_path: Path) -> None:
    model = ranker()
    every = np.tile(np.arange(1, N_ITEMS + 1, dtype=np.int32), (N_ITEMS + 1, 1))
    weights = np.full(every.shape, 1.37, np.float32)
    weights[0] = 0
    model.evidence = Evidence(Neighbours(every, weights))
    export_rank(model, FEATURES, SIZES, tmp_path / "rank.onnx")
    found = Graph(tmp_path / "rank.onnx")(made_up_inputs("rank", FEATURES, SIZES, 40))["rank_score"]
    assert np.isfinite(found).all()


def test_places_without_a_candidate_get_the_lowest_score() -> None:
    assert (answers(FoldedRankGraph(ranker()))[-1, 15:] == PADDING_SCORE).all()


def test_the_ranker_itself_is_left_as_it_was() -> None:
    model = ranker()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    FoldedRankGraph(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_exported_is_proved_against_the_ranker_spelled_out(tmp_path: Path) -> None:
    model = ranker()
    wrong = FoldedRankGraph(model)
    with torch.no_grad():
        wrong.of_first.weight.mul_(1.5)
    with pytest.raises(GraphMismatch, match="rank_score"):
        export_graph(
            wrong, "rank", FEATURES, SIZES, tmp_path / "wrong.onnx", reference=RankGraph(model).eval()
        )
