"""Weights of 8 bits in an ONNX graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from plan_release import features_of
from toy_release import SIZES

from tools.plans.graphs import Graphs
from tools.plans.precision import encode, quantise_weights
from tools.training.export import made_up_inputs

RANDOM = np.random.default_rng(5)
WEIGHTS = RANDOM.normal(size=(32, 40)).astype(np.float32)
ITEMS = RANDOM.normal(size=(50, 32)).astype(np.float32)


def graph_of_products() -> onnx.ModelProto:
    """The rows of a table, through two layers, against the table again."""
    nodes = [
        helper.make_node("Gather", ["items", "rows"], ["found"]),
        helper.make_node("MatMul", ["found", "weights"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "small"], ["query"]),
        helper.make_node("Transpose", ["items"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["query", "turned"], ["scores"]),
    ]
    constants = {"items": ITEMS, "weights": WEIGHTS, "small": np.eye(40, 32, dtype=np.float32)[:, :32]}
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("rows", TensorProto.INT64, ["batch"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 50])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def scores(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"rows": np.arange(7)})[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("axis", [0, 1])
def test_each_channel_has_a_scale_and_no_weight_is_off_by_more_than_half_a_step(
    axis: int, dtype: type[np.floating]
) -> None:
    weights = WEIGHTS.astype(dtype)
    scales, codes = encode(weights, axis, "int8")

    assert codes.dtype == np.int8
    assert scales.dtype == dtype
    assert scales.shape == (weights.shape[axis],)
    steps = np.expand_dims(scales.astype(np.float32), 1 - axis)
    assert (np.abs(codes * steps - weights.astype(np.float32)) <= 0.501 * steps).all()


def test_a_channel_of_zeros_stays_zero() -> None:
    weights = WEIGHTS.copy()
    weights[:, 3] = 0
    scales, codes = encode(weights, 1, "int8")

    assert np.isfinite(scales).all()
    assert not codes[:, 3].any()


def test_floats_of_eight_bits_keep_three_bits_of_each_weight() -> None:
    scales, codes = encode(WEIGHTS, 1, "fp8")

    decoded = codes.astype(np.float32) * scales
    assert (np.abs(decoded - WEIGHTS) <= np.abs(WEIGHTS) / 16 + scales / 512).all()


def test_weights_and_transposed_tables_become_codes_and_who_else_reads_the_table_keeps_it() -> None:
    model = graph_of_products()
    before = scores(model)

    assert quantise_weights(model, "int8", small=1281) == 1  # the items alone
    onnx.checker.check_model(model)
    constants = {each.name: each for each in model.graph.initializer}
    assert constants["items"].data_type == TensorProto.FLOAT
    assert [each.data_type for name, each in constants.items() if name.endswith(".codes")] == [
        TensorProto.INT8
    ]
    assert np.abs(scores(model) - before).max() < 0.02 * np.abs(before).max()


def test_a_weight_that_nobody_reads_any_more_is_left_out() -> None:
    model = graph_of_products()

    assert quantise_weights(model, "int8", small=1) == 3
    names = {each.name for each in model.graph.initializer}
    assert "weights" not in names
    assert "items" in names
    assert np.abs(scores(model) - scores(graph_of_products())).max() < 0.05 * np.abs(scores(model)).max()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_search_with_eight_bit_scores_finds_what_float32_finds_because_it_scores_twice_as_many_again(
    graphs: dict[str, Graphs], precision: str
) -> None:
    inputs = made_up_inputs("retrieve", features_of(5000), SIZES, rows=5)
    found = {
        each: onnxruntime.InferenceSession(graphs[each].path("retrieve")).run(None, inputs)[0]
        for each in ("fp32", precision)
    }

    shares = [
        len(set(ours) & set(theirs)) / SIZES.candidates
        for ours, theirs in zip(found["fp32"].tolist(), found[precision].tolist(), strict=True)
    ]
    assert np.mean(shares) >= {"fp32": 1.0, "fp16": 0.98, "int8": 0.9}[precision]


def test_eight_bit_graphs_have_codes_in_both_stages(graphs: dict[str, Graphs]) -> None:
    for stage, least in (("retrieve", 4), ("rank", 2)):
        model = onnx.load(graphs["int8"].path(stage), load_external_data=False)
        assert sum(each.data_type == TensorProto.INT8 for each in model.graph.initializer) >= least


def test_a_graph_without_weights_has_nothing_to_store_in_fewer_bits(tmp_path: Path) -> None:
    assert quantise_weights(graph_of_products(), "int8", small=10**6) == 0
