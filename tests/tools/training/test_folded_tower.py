"""What is exported of a query tower says what the tower says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_item_encoder import Field
from toy import features_of, retrieve_config
from tritonrec_client.contract import Sizes

from tools.training.export import (
    FoldedRetrieveGraph,
    GraphMismatch,
    RetrieveGraph,
    export_graph,
    made_up_inputs,
)
from tools.training.folded_features import FoldedFeatures
from tools.training.folded_tower import FoldedTower
from tools.training.item_encoder import FeatureEmbedding
from tools.training.retriever import Retriever

N_USERS, N_ITEMS = 9, 40
SIZES = Sizes(candidates=20, results=5, history=6, seen=N_ITEMS, session=2, user_features=2)
FEATURES = features_of(N_USERS, N_ITEMS)


def retriever(**changes: object) -> Retriever:
    """A retriever in which every weight says something."""
    torch.manual_seed(1)
    model = Retriever(retrieve_config(dropout=0.3, **changes), FEATURES, SIZES.history)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        for module in model.modules():
            if isinstance(module, FeatureEmbedding):
                module.embedding.weight[0] = 0
    return model.eval()


def made_up(rows: int = 7) -> dict[str, torch.Tensor]:
    """Users with long, short and no histories."""
    inputs = made_up_inputs("retrieve", FEATURES, SIZES, rows)
    return {name: torch.from_numpy(array) for name, array in inputs.items()}


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("heads", [1, 2, 4])
@torch.no_grad()
def test_folding_changes_nothing(blocks: int, heads: int) -> None:
    model, inputs = retriever(width=16, blocks=blocks, heads=heads), made_up()
    users, history = inputs["user_features"], inputs["history"]
    vectors = model.items()[history]
    assert (history == 0).all(dim=1).any()
    torch.testing.assert_close(
        FoldedTower(model.tower)(users, history, vectors),
        model.tower.newest(users, history, vectors),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("slots", [1, 2])
@torch.no_grad()
def test_features_are_means_of_fields_with_several_codes(slots: int) -> None:
    """… and what no field owns adds up as it is."""
    torch.manual_seed(0)
    features = FeatureEmbedding([Field(0, slots), Field(slots, 1)], 4, code_count=9, width=5)
    constant, codes = torch.randn(5), torch.randint(0, 9, (30, 4), dtype=torch.int32)
    folded = FoldedFeatures(features, constant)
    assert (folded.features is None) == (slots == 1)
    torch.testing.assert_close(folded(codes), constant + features(codes.long()))
    torch.testing.assert_close(FoldedFeatures(features)(codes), features(codes.long()))


def test_the_tower_itself_is_left_as_it_was() -> None:
    model = retriever()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    FoldedRetrieveGraph(model, SIZES)(**made_up())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_exported_is_proved_against_the_tower_spelled_out(tmp_path: Path) -> None:
    model = retriever()
    right, wrong, spelled_out = (
        graph(model, SIZES).eval() for graph in (FoldedRetrieveGraph, FoldedRetrieveGraph, RetrieveGraph)
    )
    with torch.no_grad():
        wrong.folded.positions.mul_(-1)
    export_graph(right, "retrieve", FEATURES, SIZES, tmp_path / "right.onnx", reference=spelled_out)
    with pytest.raises(GraphMismatch, match="retrieval_score"):
        export_graph(wrong, "retrieve", FEATURES, SIZES, tmp_path / "wrong.onnx", reference=spelled_out)


def test_users_asked_about_at_once_get_what_each_gets_alone(tmp_path: Path) -> None:
    from python_backend.graph import Graph

    export_graph(FoldedRetrieveGraph(retriever(), SIZES), "retrieve", FEATURES, SIZES, tmp_path / "it.onnx")
    graph, inputs = Graph(tmp_path / "it.onnx"), {name: value.numpy() for name, value in made_up().items()}
    together = graph(inputs)
    for row in range(7):
        alone = graph({name: value[row : row + 1] for name, value in inputs.items()})
        for name, value in alone.items():
            np.testing.assert_array_equal(value[0], together[name][row], err_msg=name)
