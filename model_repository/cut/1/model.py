"""The stage `cut` inside Triton, run by the code of its own release."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


class TritonPythonModel:
    """What Triton's Python backend looks for; python_backend.triton does the work."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        for library in ("OMP", "OPENBLAS", "MKL"):
            os.environ[f"{library}_NUM_THREADS"] = parameters["threads"]["string_value"]
        # First on the path: two releases may run at once, each with the code that it was validated with.
        sys.path.insert(0, str(Path(parameters["release_dir"]["string_value"]) / "code"))
        from python_backend.triton import StageModel

        self._model = StageModel("cut", args)

    def execute(self, requests: list[Any]) -> list[Any]:
        return self._model.execute(requests)

    def finalize(self) -> None:
        self._model.finalize()
