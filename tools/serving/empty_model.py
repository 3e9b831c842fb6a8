"""A model of Triton's Python backend that computes nothing: zeros for every output.

What is served with it shows what a page costs beside its stages; see `tools/bench_latency.py`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """What Triton's Python backend looks for; knows no more of its model than the configuration says."""

    def initialize(self, args: dict[str, str]) -> None:
        self._outputs = [
            (output["name"], output["dims"], pb_utils.triton_string_to_numpy(output["data_type"]))
            for output in json.loads(args["model_config"])["output"]
        ]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Zeros for each request, as many rows as it has."""
        return [self._zeros(len(request.inputs()[0].as_numpy())) for request in requests]

    def _zeros(self, rows: int) -> Any:
        outputs = [
            pb_utils.Tensor(name, np.zeros((rows, *widths), dtype)) for name, widths, dtype in self._outputs
        ]
        return pb_utils.InferenceResponse(outputs)
