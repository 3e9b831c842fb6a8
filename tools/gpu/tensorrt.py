"""TensorRT's plans of a release on the card, where full TensorRT is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from python_backend.release import Release
from tools.gpu.clock import Clock
from tools.gpu.rows import Row

NAME = "tensorrt"
STAGES = ("retrieve", "rank")
BATCHES = (1, 8, 64)
ROWS = {
    f"{stage} {batch}": Row(NAME, f"plan of {stage}, batch {batch}", "ms")
    for stage in STAGES
    for batch in BATCHES
}


def measure(
    clock: Clock, release: Release, inputs: Mapping[str, NDArray[Any]], folder: Path
) -> list[dict[str, Any]]:
    """Milliseconds of each stage's plan, made in `folder` for the card that is here, for rows of `inputs`.

    Raises what `tools.plans.making.make_plan` raises, and NoGraphsError where the release has no graphs.
    """
    from tools.plans.cache import PlanCache
    from tools.plans.graphs import Graphs
    from tools.plans.library import find_library
    from tools.plans.making import card_for, make_plan

    library = find_library()
    cache, graphs, card = PlanCache(folder / "plans"), Graphs.of(release), card_for(None)
    figures = []
    for stage in STAGES:
        plan = make_plan(graphs, stage, library, card.capability, cache)[0]
        engine = _Engine(library.module, plan.path.read_bytes(), clock.card.device)
        for batch in BATCHES:
            engine.prepare(batch, inputs)
            took = clock.in_turns({stage: engine.run})[stage]
            figures.append({"stage": stage, "batch": batch, "ms": 1000 * float(np.median(took))})
    return figures


class _Engine:
    """A plan that is loaded; tensors that are not given are zeros, which cost as much."""

    def __init__(self, trt: Any, content: bytes, device: torch.device) -> None:
        self._trt, self._device = trt, device
        # It must outlive the engine.
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise RuntimeError("TensorRT could not load the plan that it made")
        self._context = self._engine.create_execution_context()
        self._tensors: dict[str, torch.Tensor] = {}

    def prepare(self, batch: int, given: Mapping[str, NDArray[Any]]) -> None:
        """Put the first `batch` rows of `given` where the plan reads them, and make room for its outputs."""
        trt = self._trt
        dtypes = {
            trt.DataType.INT32: torch.int32,
            trt.DataType.INT64: torch.int64,
            trt.DataType.FLOAT: torch.float32,
        }
        for number in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(number)
            shape = tuple(self._engine.get_tensor_shape(name))
            dtype = dtypes[self._engine.get_tensor_dtype(name)]
            tensor = torch.zeros((batch, *shape[1:]), dtype=dtype, device=self._device)
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                if name in given:
                    tensor.copy_(torch.from_numpy(given[name][:batch]))
                self._context.set_input_shape(name, tuple(tensor.shape))
            self._tensors[name] = tensor
            self._context.set_tensor_address(name, tensor.data_ptr())

    def run(self) -> None:
        self._context.execute_async_v3(torch.cuda.current_stream(self._device).cuda_stream)
