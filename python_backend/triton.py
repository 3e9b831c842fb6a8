"""The adapter to Triton's Python backend; the only module that knows `triton_python_backend_utils`.

Each `model_repository/<stage>/1/model.py` puts its release's code on the path and makes a `StageModel`.
"""

from __future__ import annotations

import gc
import json
import math
import os
import time
import traceback
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tritonrec_client.contract import DEADLINE, MODELS, STATUS

from python_backend.background import in_background, step_back, step_forward
from python_backend.batch import Answer, BatchAnswerer
from python_backend.deadline import Admission, milliseconds_left
from python_backend.metrics import StageSeconds
from python_backend.outcomes import ANSWERED, FAILED, INVALID, LATE, UNAVAILABLE, Outcomes
from python_backend.pipeline import StageFailed, failure, load_stage
from python_backend.plan import Plan
from python_backend.release import Release
from python_backend.stages.base import Array, InvalidRequest, Unavailable


class StageModel:
    """One stage in one process of Triton.

    `name` is the stage's name in the contract, `args` what Triton hands to `initialize`. Whatever is raised
    here is Triton's reason why the model could not be loaded.
    """

    def __init__(self, name: str, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        options = {key: value["string_value"] for key, value in config["parameters"].items()}
        if args.get("model_instance_kind") == "GPU" and options.get("device") == "cuda":
            options["device"] = f"cuda:{args['model_instance_device_id']}"
        # The stub imports numpy before our code, so environment variables no longer reach its BLAS.
        threadpool_limits(int(options["threads"]))
        release = Release.open(Path(options["release_dir"]))
        # Several steps of a release may run the same stage.
        step = Plan.of(release).step(options.get("step", name))
        model = MODELS[name] if step is None else step.contract
        own = release if step is None else step.release(release)
        self._name = model.name
        self._admission = Admission(float(options["least_time_left_ms"]))
        self._inputs = [tensor.name for tensor in model.inputs]
        self._stage = in_background(lambda: load_stage(name, own, options))
        self._answer = BatchAnswerer(self._stage, own, model)
        self._release = release
        self._seconds: StageSeconds | None = None
        self._outcomes: Outcomes | None = None
        self._warm_up_left = len(config["model_warmup"])
        if not self._warm_up_left:
            self._serve()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One InferenceResponse per request, in order: an answer, an error, or None where it was sent.

        Never raises: Triton would fail requests without saying which one was at fault.
        """
        if self._warm_up_left:
            # Triton's warm-up comes first, in each process; another release may serve meanwhile.
            self._warm_up_left -= 1
            answers: list[Any] = in_background(lambda: self._execute(requests))
            if not self._warm_up_left:
                self._serve()
            return answers
        return self._execute(requests)

    def finalize(self) -> None:
        """Called when the model is unloaded; what served last must not disturb what serves now."""
        step_back()
        if self._seconds is not None:
            self._seconds.close()
        if self._outcomes is not None:
            self._outcomes.close()

    def _serve(self) -> None:
        """Measure, with the server's own priority: this process may have been started with a lower one."""
        self._seconds = StageSeconds(self._release.name, pb_utils.MetricFamily)
        self._outcomes = Outcomes(self._name, self._release, pb_utils.MetricFamily)
        self._stage.observe = self._seconds.observe
        # What is loaded stays: a full collection would look at all of it, libraries too, while callers wait.
        gc.collect()
        gc.freeze()
        step_forward(os.getpriority(os.PRIO_PROCESS, os.getppid()))

    def _execute(self, requests: list[Any]) -> list[Any]:
        began = time.perf_counter()
        refused = [False] * len(requests)
        try:
            taken = [self._arrays(request) for request in requests]
            self._refuse(requests, [_rows(arrays) for arrays in taken], refused)
            accepted = [arrays for arrays, no in zip(taken, refused, strict=True) if not no]
            answers = iter(self._answer(accepted))
            if rows := sum(_rows(arrays) for arrays in accepted):
                self._admission.observe(rows, 1000 * (time.perf_counter() - began))
            # None stands for a response that was sent.
            return [None if no else self._response(next(answers)) for no in refused]
        except Exception as error:
            pb_utils.Logger.log_error(f"{self._name}: {traceback.format_exc()}")
            what = str(error) if isinstance(error, StageFailed) else failure(self._name, error)
            message = f"{what}; see the server's log"
            self._count(FAILED, refused.count(False))
            return [None if no else self._error(message, pb_utils.TritonError.INTERNAL) for no in refused]

    def _arrays(self, request: Any) -> dict[str, Array]:
        tensors = ((name, pb_utils.get_input_tensor_by_name(request, name)) for name in self._inputs)
        take = self._stage.arrays.from_triton
        return {name: take(tensor) for name, tensor in tensors if tensor is not None}

    def _response(self, answer: Answer) -> Any:
        if isinstance(answer, InvalidRequest):
            self._count(INVALID)
            return self._error(str(answer), pb_utils.TritonError.INVALID_ARG)
        if isinstance(answer, Unavailable):
            self._count(UNAVAILABLE)
            return self._error(f"{self._name}: {answer}", pb_utils.TritonError.UNAVAILABLE)
        self._count(ANSWERED)
        if self._outcomes is not None and STATUS.name in answer:
            self._outcomes.count_pages(answer[STATUS.name])
        give = self._stage.arrays.to_triton
        return pb_utils.InferenceResponse([give(pb_utils.Tensor, *output) for output in answer.items()])

    def _count(self, outcome: str, requests: int = 1) -> None:
        if self._outcomes is not None:
            self._outcomes.count(outcome, requests)

    def _refuse(self, requests: list[Any], rows: list[int], refused: list[bool]) -> None:
        """Refuse the requests whose answers would come too late, at once, and note them in `refused`."""

        def refuse(number: int, response: Any) -> None:
            # Not with the answers: those take as long as the whole batch.
            sender = requests[number].get_response_sender()
            sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            refused[number] = True

        left: dict[int, float] = {}
        for number, request in enumerate(requests):
            try:
                left[number] = milliseconds_left(request.parameters() or "")
            except InvalidRequest as error:
                refuse(number, self._response(error))
        chosen = self._admission.choose(list(left.values()), [rows[number] for number in left])
        for (number, time_left), needed in zip(left.items(), chosen, strict=True):
            if needed is not None:
                self._count(LATE)
                message = (
                    f"{DEADLINE}: found {time_left:.0f} ms left before {self._name};"
                    f" allowed is {math.ceil(needed)} or more"
                )
                refuse(number, self._error(message, pb_utils.TritonError.UNAVAILABLE))

    @staticmethod
    def _error(message: str, code: int) -> Any:
        return pb_utils.InferenceResponse([], error=pb_utils.TritonError(message, code))


def _rows(arrays: dict[str, Array]) -> int:
    return max((len(array) for array in arrays.values()), default=0)
