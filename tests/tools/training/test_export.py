from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from toy import features_of, rank_config, retrieve_config
from tritonrec_client.contract import MODELS, Sizes

from python_backend.graph import Graph
from tools.training.candidates import PADDING_SCORE
from tools.training.export import (
    GraphMismatch,
    RankGraph,
    RetrieveGraph,
    check_graph,
    export_graph,
    made_up_inputs,
)
from tools.training.features import Features
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

N_USERS, N_ITEMS = 9, 40
SIZES = Sizes(candidates=20, results=5, history=6, seen=N_ITEMS, session=2, user_features=2)
FEATURES = features_of(N_USERS, N_ITEMS)


def moved_from_its_start(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for embedding in model.modules():
            if isinstance(embedding, torch.nn.Embedding):
                embedding.weight[0] = 0
    return model.eval()


def graph_of(stage: str, features: Features = FEATURES) -> torch.nn.Module:
    torch.manual_seed(0)
    if stage == "rank":
        return RankGraph(moved_from_its_start(Ranker(rank_config(dropout=0.2), features, SIZES.history)))
    retriever = Retriever(retrieve_config(dropout=0.2), features, SIZES.history)
    return RetrieveGraph(moved_from_its_start(retriever), SIZES)


@dataclass(frozen=True)
class Exported:
    """A stage's model, its file and the file as it is served."""

    stage: str
    module: torch.nn.Module
    path: Path
    graph: Graph


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Exporting takes seconds, so it is done once."""
    folder, exports = tmp_path_factory.mktemp("artifacts"), {}
    for stage in ("retrieve", "rank"):
        module, path = graph_of(stage), folder / f"{stage}.onnx"
        export_graph(module, stage, FEATURES, SIZES, path)
        exports[stage] = Exported(stage, module, path, Graph(path))
    return exports


@pytest.fixture(params=["retrieve", "rank"])
def exported(exports: dict[str, Exported], request: pytest.FixtureRequest) -> Exported:
    return exports[request.param]


@pytest.fixture
def retrieve(exports: dict[str, Exported]) -> Graph:
    return exports["retrieve"].graph


def requests(rows: int, **changes: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {**made_up_inputs("retrieve", FEATURES, SIZES, rows), **changes}


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_onnx_runtime_answers_as_torch_for_any_batch(exported: Exported, rows: int) -> None:
    inputs = made_up_inputs(exported.stage, FEATURES, SIZES, rows)
    with torch.no_grad():
        expected = exported.module(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    expected = expected if isinstance(expected, tuple) else (expected,)
    for wanted, found in zip(expected, exported.graph(inputs).values(), strict=True):
        assert found.dtype == wanted.numpy().dtype
        assert np.allclose(found, wanted.numpy(), atol=1e-5)


def test_a_graph_speaks_the_contract(exported: Exported) -> None:
    model = MODELS[exported.stage]
    assert exported.graph.inputs == tuple(tensor.name for tensor in model.inputs)
    assert exported.graph.outputs == tuple(tensor.name for tensor in model.outputs)[:-1]
    answer = exported.graph(made_up_inputs(exported.stage, FEATURES, SIZES, 3))
    for tensor in model.outputs[:-1]:
        assert answer[tensor.name].shape == (3, tensor.resolve(SIZES))


def test_a_batch_is_its_requests_one_by_one(exported: Exported) -> None:
    inputs = made_up_inputs(exported.stage, FEATURES, SIZES, 8)
    together = exported.graph(inputs)
    for row in range(8):
        alone = exported.graph({name: array[row : row + 1] for name, array in inputs.items()})
        for name, array in alone.items():
            assert np.allclose(array[0], together[name][row], atol=1e-5), name


def test_the_same_model_gives_the_same_bytes(exported: Exported, tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    export_graph(graph_of(exported.stage), exported.stage, FEATURES, SIZES, again)
    assert again.read_bytes() == exported.path.read_bytes()


def test_the_file_names_nothing_of_the_machine_that_made_it(exported: Exported) -> None:
    content = exported.path.read_bytes()
    for name in (str(Path.cwd()), str(Path(torch.__file__).parent), "tools/training", "Traceback"):
        assert name.encode() not in content
    if getpass.getuser() != "root":
        assert os.path.expanduser("~").encode() not in content


# What retrieve must never do.


def test_candidates_are_the_best_unseen_items_in_order(retrieve: Graph) -> None:
    answer = retrieve(requests(32))
    seen = requests(32)["seen"]
    for row in range(32):
        candidates = answer["candidate"][row].tolist()
        assert len(set(candidates)) == SIZES.candidates
        assert not set(candidates) & {0, *seen[row].tolist()}
    assert (np.diff(answer["retrieval_score"], axis=1) <= 0).all()


def test_scores_are_log_probabilities_of_the_unseen_items(retrieve: Graph) -> None:
    """Of 40 items 20 are seen, so that the 20 candidates are all that is left."""
    seen = np.zeros((1, SIZES.seen), np.int32)
    seen[0, :20] = np.arange(1, 21)
    answer = retrieve(requests(1, seen=seen))
    assert sorted(answer["candidate"][0].tolist()) == list(range(21, 41))
    assert np.exp(answer["retrieval_score"]).sum() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("left", [19, 1, 0])
def test_fewer_items_than_candidates_are_filled_with_padding(retrieve: Graph, left: int) -> None:
    seen = np.zeros((1, SIZES.seen), np.int32)
    seen[0, : N_ITEMS - left] = np.arange(1, N_ITEMS - left + 1)
    answer = retrieve(requests(1, seen=seen))
    candidate, score = answer["candidate"][0], answer["retrieval_score"][0]
    assert sorted(candidate[:left].tolist()) == list(range(N_ITEMS - left + 1, N_ITEMS + 1))
    assert not candidate[left:].any()
    assert (score[left:] == PADDING_SCORE).all()
    assert np.isfinite(score).all()


def test_a_request_of_zeros_as_triton_warms_up_with_is_answered(exported: Exported) -> None:
    inputs = made_up_inputs(exported.stage, FEATURES, SIZES, 2)
    answer = exported.graph({name: np.zeros_like(array) for name, array in inputs.items()})
    assert all(np.isfinite(array).all() for array in answer.values())


# The proof.


def test_items_and_users_without_features_are_exported_as_well(tmp_path: Path) -> None:
    plain = features_of(N_USERS, N_ITEMS, described=False)
    path = tmp_path / "retrieve.onnx"
    export_graph(graph_of("retrieve", plain), "retrieve", plain, SIZES, path)
    answer = Graph(path)(made_up_inputs("retrieve", plain, SIZES, 4))
    assert answer["candidate"].shape == (4, SIZES.candidates)


def tampered(path: Path, into: Path, change: Any) -> Graph:
    """The graph with every constant float matrix changed."""
    model = onnx.load(path)
    for constant in model.graph.initializer:
        array = numpy_helper.to_array(constant)
        if array.dtype == np.float32 and array.ndim == 2 and len(array) == N_ITEMS + 1:
            constant.CopyFrom(numpy_helper.from_array(change(array), constant.name))
    onnx.save(model, into)
    return Graph(into)


def test_a_graph_with_other_item_vectors_is_refused(exported: Exported, tmp_path: Path) -> None:
    inputs = made_up_inputs(exported.stage, FEATURES, SIZES, 5)
    check_graph(exported.module, tampered(exported.path, tmp_path / "same", lambda array: array), inputs)
    other = tampered(exported.path, tmp_path / "other", lambda array: array * np.float32(1.01))
    with pytest.raises(GraphMismatch, match=r"^(retrieval_score|rank_score): differs by up to"):
        check_graph(exported.module, other, inputs)


class Answers(Graph):
    """What a graph gives, changed."""

    def __init__(self, graph: Graph, **changes: Any) -> None:
        self._graph, self._changes = graph, changes
        self.inputs, self.outputs = graph.inputs, graph.outputs

    def __call__(self, inputs: Any) -> dict[str, Any]:
        return {
            name: self._changes.get(name, lambda array: array)(array)
            for name, array in self._graph(inputs).items()
        }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidate": lambda array: array % N_ITEMS + 1}, "candidate: 9.% differ; allowed is 2%"),
        ({"candidate": lambda array: array.astype(np.int64)}, r"candidate: int64 \(5, 20\); expected int32"),
        ({"retrieval_score": lambda array: array[:, :-1]}, r"retrieval_score: float32 \(5, 19\); expected"),
        ({"retrieval_score": lambda array: array * np.nan}, r"retrieval_score: differs by up to nan"),
    ],
)
def test_other_answers_than_torchs_are_refused_by_name(
    retrieve: Graph, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(GraphMismatch, match=message):
        check_graph(graph_of("retrieve"), Answers(retrieve, **changes), requests(5))


def test_items_with_the_same_score_may_stand_in_any_order(retrieve: Graph) -> None:
    module = graph_of("retrieve")
    module.vectors[1:] = module.vectors[1]  # every item is like every other
    module.bias[1:] = 0

    def others(array: np.ndarray) -> np.ndarray:
        return array[:, ::-1].copy()

    def same(array: np.ndarray) -> np.ndarray:
        return array

    inputs = requests(5)
    with torch.no_grad():
        answers = module(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    outputs = {"candidate": answers[0].numpy(), "retrieval_score": answers[1].numpy()}

    class Tied(Answers):
        def __call__(self, inputs: Any) -> dict[str, Any]:
            return {name: self._changes[name](array) for name, array in outputs.items()}

    check_graph(module, Tied(retrieve, candidate=others, retrieval_score=same), inputs)


def test_made_up_requests_are_valid_and_have_histories_of_every_kind() -> None:
    inputs = requests(5)
    lengths = (inputs["history"] != 0).sum(axis=1)
    assert lengths[0] == 0
    assert lengths[-1] == SIZES.history
    for name, array in inputs.items():
        tensor = next(tensor for tensor in MODELS["retrieve"].inputs if tensor.name == name)
        assert array.shape == (5, tensor.resolve(SIZES))
        assert array.dtype == np.int32
