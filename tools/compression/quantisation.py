"""The exported ranker in 8 bits, for ONNX Runtime on a CPU.

Static: the scales of what flows through the graph are measured on requests of the past. Weights have a scale
for each output. Only what pays is quantised, the layers over the joint vector of user and candidate: their
products take half of the time and become three times faster, where the CPU multiplies 8-bit numbers (AVX-512
VNNI). The table of all pairs' evidence, most of the file, has a scale for each of its rows. Attention,
normalisation, sums and the retrieval score stay in float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from python_backend.graph import Graph
from python_backend.item_index import PADDING_SCORE
from tools.checks import CheckFailed
from tools.training.graph_files import write_graph

PAIRS = "pairs"
"""What `FoldedRankGraph` calls its table of evidence."""

FLOAT_LAYERS = ("query",)
"""Layers by name whose product is too small to pay for its quantisation."""

MOST_ERROR = 0.2
"""How far answers may be off: the root of the mean square, as a part of the scores' own deviation."""

Inputs = Mapping[str, NDArray[Any]]


class QuantisationError(CheckFailed):
    """A graph in 8 bits that does not answer like the one in float32."""


def quantise(path: Path, requests: Iterable[Inputs]) -> None:
    """Replace the rank graph at `path` by one in 8 bits; its inputs and outputs stay as they are.

    `requests` are inputs of the stage, on which scales are measured and the result is tried. Raises
    QuantisationError where answers are too far off or padding gets another score.
    """
    samples = list(requests)
    exact = Graph(path)
    expected = [exact(inputs)["rank_score"] for inputs in samples]
    model = onnx.load(path)
    names = paying_nodes(model)
    # Says that there is nothing to prepare: the shapes are known, and ONNX Runtime folds what it can later.
    add_pre_process_metadata(model)
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.onnx"
        quantize_static(
            model,
            small,
            _Reader(samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Gemm", "Mul"],
            nodes_to_quantize=names,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            # Products end in float32 where the next step is not quantised: one rounding less.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "Mul"]},
        )
        quantised = onnx.load(small)
    _shrink_pairs(quantised)
    del quantised.metadata_props[:]
    write_graph(quantised, path)
    small_graph = Graph(path)
    _check(samples, expected, [small_graph(inputs)["rank_score"] for inputs in samples])


def paying_nodes(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes of `model` that are faster in 8 bits.

    That is each product with a constant matrix, but those of `FLOAT_LAYERS`, and multiplications between two
    of them.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    products = [
        node
        for node in model.graph.node
        if node.op_type == "Gemm" and node.input[1] in weights and not node.input[1].startswith(FLOAT_LAYERS)
    ]
    chosen = {node.name for node in products}
    made = {name for node in products for name in node.output}
    between = [
        node
        for node in model.graph.node
        if node.op_type == "Mul"
        and made.intersection(node.input)
        and all(user.name in chosen for user in _users(model, node.output[0]))
    ]
    return [node.name for node in (*products, *between)]


def _shrink_pairs(model: onnx.ModelProto) -> None:
    """Let the evidence of `model`, where it is a table of all pairs, be 8 bits with a scale for each row.

    Rows that are looked up and added become rows that are looked up and multiplied by their scales.
    """
    graph = model.graph
    table = next((tensor for tensor in graph.initializer if tensor.name == PAIRS), None)
    looked_up = next((node for node in graph.node if node.input and node.input[0] == PAIRS), None)
    if table is None or looked_up is None:
        return
    (added,) = _users(model, looked_up.output[0])
    if (looked_up.op_type, added.op_type) != ("Gather", "ReduceSum"):
        raise QuantisationError(
            f"{PAIRS}: found {looked_up.op_type} and {added.op_type}; expected Gather and ReduceSum"
        )
    weights = onnx.numpy_helper.to_array(table)
    scale = np.abs(weights).max(axis=1, keepdims=True) / 127
    small = np.round(weights / np.where(scale > 0, scale, 1)).astype(np.int8)
    graph.initializer.remove(table)
    for name, array in (("small", small), ("scale", scale[:, 0]), ("axis", np.array([1]))):
        graph.initializer.append(onnx.numpy_helper.from_array(array, f"{PAIRS}_{name}"))
    items, total = looked_up.input[1], added.output[0]
    place = list(graph.node).index(looked_up)
    graph.node.remove(looked_up)
    graph.node.remove(added)
    nodes: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        ("Gather", ["small", items], "rows", {}),
        ("Cast", ["rows"], "values", {"to": onnx.TensorProto.FLOAT}),
        ("Gather", ["scale", items], "scales", {}),
        ("Unsqueeze", ["scales", "axis"], "factors", {}),
        ("MatMul", ["factors", "values"], "sum", {}),
        ("Squeeze", ["sum", "axis"], total, {}),
    )
    for offset, (operator, inputs, output, attributes) in enumerate(nodes):
        names = [name if name == items else f"{PAIRS}_{name}" for name in inputs]
        made = output if output == total else f"{PAIRS}_{output}"
        node = onnx.helper.make_node(operator, names, [made], name=f"{PAIRS}_to_{output}", **attributes)
        graph.node.insert(place + offset, node)


def _users(model: onnx.ModelProto, tensor: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if tensor in node.input]


def _check(
    samples: list[Inputs], expected: list[NDArray[np.float32]], found: list[NDArray[np.float32]]
) -> None:
    """Raise QuantisationError where answers are too far from those of the exact graph."""
    errors, spreads = [], []
    for inputs, wanted, answer in zip(samples, expected, found, strict=True):
        present = inputs["candidate"] != 0
        if not np.isfinite(answer).all() or (answer[~present] != PADDING_SCORE).any():
            raise QuantisationError(
                "rank_score: in 8 bits it is not finite, or places without a candidate win"
            )
        errors.append(np.square(answer - wanted)[present].mean())
        spreads.append(np.square(wanted - wanted[present].mean())[present].mean())
    error = float(np.sqrt(np.mean(errors) / np.mean(spreads)))
    if not error <= MOST_ERROR:
        raise QuantisationError(
            f"rank_score: in 8 bits it is off by {error:.0%} of its deviation; allowed is {MOST_ERROR:.0%}"
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Requests one after the other, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, samples: list[Inputs]) -> None:
        self._rest = iter(samples)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        inputs = next(self._rest, None)
        return None if inputs is None else dict(inputs)
