"""Stages that are one exported graph, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import onnxruntime

from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, Stage


class Graph:
    """A loaded ONNX file whose inputs and outputs carry the contract's names.

    `threads` caps ONNX Runtime's own threads: each stage instance is a process, and processes that each
    take every core make the slowest requests many times slower.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: the release has no such graph")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle threads that spin take the core from the next stage.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(tensor.name for tensor in self._session.get_inputs())
        self.outputs = tuple(tensor.name for tensor in self._session.get_outputs())

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        """The graph's outputs by name; inputs that it does not take are left out."""
        results = self._session.run(None, {name: inputs[name] for name in self.inputs})
        return dict(zip(self.outputs, results, strict=True))


def threads_of(options: Mapping[str, str]) -> int:
    """The option ``threads``, by default 1. Raises ValueError on another number than 1 or more."""
    threads = options.get("threads", "1")
    # ONNX Runtime would take 0 for every core of the machine.
    if not threads.isdecimal() or int(threads) < 1:
        raise ValueError(f"option threads is {threads!r}; it must be a whole number of at least 1")
    return int(threads)


class GraphStage(Stage):
    """A stage whose whole work is the graph ``artifacts/<name>.onnx`` of its release."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """`options`: ``threads`` of ONNX Runtime, by default 1.

        Raises ValueError on another number than 1 or more, and FileNotFoundError.
        """
        return cls(Graph(release.artifacts / f"{cls.name}.onnx", threads=threads_of(options)))

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        return self._graph(inputs)
