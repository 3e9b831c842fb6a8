"""ONNX graphs on disk: what is large lies beside the graph, where processes share it."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.external_data_helper import set_external_data

LARGE = 4 * 2**20
"""Constants of so many bytes or more go into a file of their own."""
PAGE = 4096


def write_graph(model: onnx.ModelProto, path: Path, *, large: int = LARGE) -> None:
    """Write `model` to `path`, its large constants to the same name with the suffix ``.weights``.

    ONNX Runtime maps that file into memory instead of reading it: a graph with item vectors is loaded at
    once, and the processes that run it share them. Without large constants there is no such file. The same
    model gives the same bytes; `model` loses what was written beside it.
    """
    weights = path.with_suffix(".weights")
    with weights.open("wb") as file:
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) >= large:
                begin = file.tell()
                file.write(tensor.raw_data)
                set_external_data(tensor, weights.name, begin, file.tell() - begin)
                tensor.ClearField("raw_data")
                file.write(bytes(-file.tell() % PAGE))
    if not weights.stat().st_size:
        weights.unlink()
    path.write_bytes(model.SerializeToString(deterministic=True))
