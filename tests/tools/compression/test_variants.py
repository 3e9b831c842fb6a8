"""Every variant, written as a build writes it, and measured as tools/compress.py measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from toy_rankers import FEATURES, RANK, SIZES, toy_ranker, toy_requests
from tritonrec_client.contract import MODELS

from python_backend.graph import Graph
from python_backend.item_index import PADDING_SCORE
from tools.compression.quantisation import QuantisationError, paying_nodes, quantise
from tools.compression.receipt import measure
from tools.compression.requests import inputs_of
from tools.compression.variants import Maker, model_of
from tools.config.compression import VARIANTS, CompressConfig
from tools.training.rank_training import rank_logits

MADE = ("full", "int8", "pruned-int8", "distilled-int8")
"""The other two are steps on the way to these, and every export takes seconds."""


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("variants")
    config = CompressConfig.model_validate(
        {"epochs": 30, "student": {"width": 8, "heads": 1, "crosses": 1, "hidden": 8, "learning_rate": 0.01}}
    )
    maker = Maker(toy_ranker(), config, RANK, toy_requests(), FEATURES, SIZES, seed=1)
    paths = {}
    for variant in MADE:
        paths[variant] = folder / f"{variant}.onnx"
        maker.write(variant, paths[variant])  # type: ignore[arg-type]
    return paths


def scores(path: Path, rows: int = 4) -> np.ndarray:
    graph = Graph(path)
    answers = [graph(inputs)["rank_score"] for inputs in inputs_of(toy_requests(), FEATURES, rows)]
    return np.concatenate(answers)


@pytest.mark.parametrize("variant", MADE)
def test_a_variant_keeps_the_contract(graphs: dict[str, Path], variant: str) -> None:
    graph = Graph(graphs[variant])
    assert set(graph.inputs) == {tensor.name for tensor in MODELS["rank"].inputs}
    assert graph.outputs == ("rank_score",)
    assert scores(graphs[variant]).dtype == np.float32


@pytest.mark.parametrize("variant", MADE)
def test_places_without_a_candidate_get_the_lowest_score(graphs: dict[str, Path], variant: str) -> None:
    found, empty = scores(graphs[variant]), toy_requests().candidates == 0
    assert empty.any()
    assert (found[empty] == PADDING_SCORE).all()
    assert found[~empty].min() > PADDING_SCORE


@pytest.mark.parametrize("variant", MADE)
def test_an_answer_does_not_depend_on_who_else_is_asked_about(graphs: dict[str, Path], variant: str) -> None:
    np.testing.assert_allclose(scores(graphs[variant], 1), scores(graphs[variant], 4), rtol=1e-6, atol=1e-6)


def test_the_full_variant_answers_like_the_ranker(graphs: dict[str, Path]) -> None:
    requests = toy_requests()
    present = requests.candidates != 0
    expected = rank_logits(toy_ranker(), requests, FEATURES)
    np.testing.assert_allclose(scores(graphs["full"])[present], expected[present], rtol=1e-4, atol=1e-4)


def test_eight_bits_answer_nearly_like_float32(graphs: dict[str, Path]) -> None:
    present = toy_requests().candidates != 0
    exact, found = scores(graphs["full"])[present], scores(graphs["int8"])[present]
    error = np.sqrt(np.square(found - exact).mean())
    assert 0 < error < 0.03 * exact.std()


def test_in_eight_bits_the_layers_are_and_each_output_has_its_own_scale(graphs: dict[str, Path]) -> None:
    exact, small = onnx.load(graphs["full"]), onnx.load(graphs["int8"])
    assert len(paying_nodes(exact)) == 7  # six products, and the crossing between two of them
    weights = {tensor.name: tensor for tensor in small.graph.initializer}
    quantised = [name for name in weights if name.endswith(".weight_quantized")]
    assert len(quantised) == 6
    for name in quantised:
        assert weights[name].data_type == onnx.TensorProto.INT8
        scale = weights[name.removesuffix("_quantized") + "_scale"]
        assert list(scale.dims) == [weights[name].dims[0]]


def test_in_eight_bits_the_table_of_evidence_has_a_scale_for_each_row(graphs: dict[str, Path]) -> None:
    exact, small = (
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        for path in (graphs["full"], graphs["int8"])
    )
    assert "pairs" not in small
    assert small["pairs_small"].dtype == np.int8
    read = small["pairs_small"] * small["pairs_scale"][:, None]
    step = np.abs(exact["pairs"]).max(axis=1, keepdims=True) / 127
    assert (np.abs(read - exact["pairs"]) <= step / 2 + 1e-7).all()
    assert graphs["int8"].stat().st_size < graphs["full"].stat().st_size


def test_a_graph_that_eight_bits_ruin_is_refused(graphs: dict[str, Path], tmp_path: Path) -> None:
    """One column, which hardly counts, is so large that one scale cannot tell the others apart."""
    path = tmp_path / "rank.onnx"
    model = onnx.load(graphs["full"])
    for tensor in model.graph.initializer:
        if tensor.name in ("norm.weight", "hidden.weight", "crosses.0.narrow.weight", "matched.weight"):
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[..., 0] = 3e4 if tensor.name == "norm.weight" else 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    with pytest.raises(QuantisationError, match=r"in 8 bits it is off by .* allowed is 20%"):
        quantise(path, inputs_of(toy_requests(), FEATURES, 16))


def test_the_receipt_has_a_row_for_each_variant(graphs: dict[str, Path]) -> None:
    receipt = measure(
        graphs,
        toy_requests(),
        FEATURES,
        least_ratio=0.5,
        measured_on="made-up requests",
        repeats=3,
        machine="this one",
    )
    assert [row.variant for row in receipt.rows] == list(MADE)
    full = receipt.rows[0]
    assert (full.ndcg_ratio.mean, full.ndcg_ratio.low, full.ndcg_ratio.high) == (1, 1, 1)
    assert full.alone_speed.mean == full.together_speed.mean == 1
    for row in receipt.rows:
        assert row.bytes == graphs[row.variant].stat().st_size
        assert row.recall_ratio.mean == 1  # ranking reorders what was retrieved
        assert row.alone_ms > 0
        assert row.together_ms > 0
    content = receipt.to_dict()
    assert [row["variant"] for row in content["rows"]] == list(MADE)
    assert all(command.startswith("python tools/") for command in content["elsewhere"].values())


def test_all_variants_have_a_model_and_a_precision() -> None:
    assert {model_of(name) for name in VARIANTS} == {"full", "pruned", "distilled"}
