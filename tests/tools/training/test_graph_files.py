"""Graphs whose large constants lie beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from python_backend.graph import Graph
from tools.training.graph_files import write_graph

ROWS = np.arange(3000, dtype=np.float32).reshape(1000, 3)


def gathering(rows: np.ndarray) -> onnx.ModelProto:
    """A graph that looks up `rows` and adds a small constant."""
    nodes = [
        helper.make_node("Gather", ["rows", "places"], ["found"]),
        helper.make_node("Add", ["found", "one"], ["result"]),
    ]
    constants = [
        numpy_helper.from_array(rows, "rows"),
        numpy_helper.from_array(np.ones(1, np.float32), "one"),
        numpy_helper.from_array(rows + 1, "unused"),
    ]
    places = helper.make_tensor_value_info("places", TensorProto.INT64, ["n"])
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "gathering", [places], [result], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("large", [10_000, 100_000])
def test_a_graph_answers_the_same_wherever_its_constants_are(tmp_path: Path, large: int) -> None:
    write_graph(gathering(ROWS), tmp_path / "graph.onnx", large=large)
    assert (tmp_path / "graph.weights").exists() == (large < ROWS.nbytes)
    places = np.array([0, 999, 500])
    found = Graph(tmp_path / "graph.onnx")({"places": places})["result"]
    np.testing.assert_array_equal(found, ROWS[places] + 1)


def test_only_what_is_large_lies_beside_the_graph(tmp_path: Path) -> None:
    write_graph(gathering(ROWS), tmp_path / "graph.onnx", large=10_000)
    assert (tmp_path / "graph.onnx").stat().st_size < 1000
    assert ROWS.tobytes() in (tmp_path / "graph.weights").read_bytes()


def test_the_same_graph_gives_the_same_bytes_and_written_again_it_leaves_nothing_old(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    write_graph(gathering(ROWS), path, large=10_000)
    before = [file.read_bytes() for file in sorted(tmp_path.iterdir())]
    write_graph(gathering(ROWS), path, large=10_000)
    assert [file.read_bytes() for file in sorted(tmp_path.iterdir())] == before
    write_graph(gathering(ROWS), path)
    assert [file.name for file in tmp_path.iterdir()] == ["graph.onnx"]


def test_who_may_read_the_graph_may_read_its_constants(tmp_path: Path) -> None:
    write_graph(gathering(ROWS), tmp_path / "graph.onnx", large=10_000)
    modes = {file.stat().st_mode for file in tmp_path.iterdir()}
    assert len(modes) == 1
