"""The smallest graphs that keep the contract, written by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from tritonrec_client.contract import MODELS, Sizes, Tensor

TYPES = {"INT32": TensorProto.INT32, "INT64": TensorProto.INT64, "FP32": TensorProto.FLOAT}


def write_retrieve(path: Path, sizes: Sizes) -> None:
    """Everybody gets the items 1, 2, 3, … with the scores 0, -1, -2, …"""
    items = np.arange(1, sizes.candidates + 1, dtype=np.int32)
    _write(
        path,
        "retrieve",
        sizes,
        [
            # A reduced history of zeros keeps the batch's number of rows.
            helper.make_node("ReduceSum", ["history", "axis"], ["total"], keepdims=1),
            helper.make_node("Mul", ["total", "nothing"], ["zero"]),
            helper.make_node("Add", ["zero", "items"], ["candidate"]),
            helper.make_node("Sub", ["one", "candidate"], ["negative"]),
            helper.make_node("Cast", ["negative"], ["retrieval_score"], to=TensorProto.FLOAT),
        ],
        {
            "axis": np.array([1], np.int64),
            "nothing": np.zeros(1, np.int32),
            "one": np.ones(1, np.int32),
            "items": items,
        },
    )


def write_rank(path: Path, sizes: Sizes) -> None:
    """The retriever's scores, turned round: the last candidate is the best."""
    _write(path, "rank", sizes, [helper.make_node("Neg", ["retrieval_score"], ["rank_score"])], {})


def write_query(path: Path, width: int) -> None:
    """A query is the sum of its history's vectors."""
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["history_vectors", "axis"], ["query"], keepdims=0)],
        "retrieve_query",
        [helper.make_tensor_value_info("history_vectors", TensorProto.FLOAT, ["batch", "history", width])],
        [helper.make_tensor_value_info("query", TensorProto.FLOAT, ["batch", width])],
        [numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _write(path: Path, stage: str, sizes: Sizes, nodes: list[Any], constants: dict[str, Any]) -> None:
    def described(tensors: Iterable[Tensor]) -> list[Any]:
        return [
            helper.make_tensor_value_info(tensor.name, TYPES[tensor.dtype], ["batch", tensor.resolve(sizes)])
            for tensor in tensors
        ]

    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        stage,
        described([tensor for tensor in MODELS[stage].inputs if tensor.name in used]),
        described([tensor for tensor in MODELS[stage].outputs if not tensor.name.endswith("_release")]),
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
