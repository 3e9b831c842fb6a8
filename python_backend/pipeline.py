"""The stages in one process, one after the other: what an ensemble of them does, without its copies."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from tritonrec_client.contract import PIPELINE, RETRIEVE_AND_RANK

from python_backend.plan import Plan, Step
from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, Observe, Stage, Unavailable

STAGE_CLASSES = {
    "feature_lookup": "python_backend.stages.feature_lookup:FeatureLookup",
    "retrieve": "python_backend.stages.retrieve:Retrieve",
    "merge": "python_backend.stages.merge:Merge",
    "cut": "python_backend.stages.cut:Cut",
    "rank": "python_backend.stages.rank:Rank",
    "blend": "python_backend.stages.blend:Blend",
    "rerank": "python_backend.stages.rerank:Rerank",
    PIPELINE.name: "python_backend.pipeline:Pipeline",
    RETRIEVE_AND_RANK.name: "python_backend.gpu.stage:RetrieveAndRank",
    "record_event": "python_backend.stages.record_event:RecordEvent",
    "forget_user": "python_backend.stages.forget_user:ForgetUser",
}
"""Where each model's class is; imported by name, so that a process loads only its own stage's libraries."""


def load_stage(name: str, release: Release, options: Mapping[str, str]) -> Stage:
    """The stage `name` of `release`; `options` are the string parameters of its config.pbtxt."""
    module, _, stage_class = STAGE_CLASSES[name].partition(":")
    stage: Stage = getattr(importlib.import_module(module), stage_class).load(release, options)
    return stage


def failure(stage: str, error: Exception) -> str:
    """What a caller is told about the fault `error` of `stage`."""
    return f"{stage} failed ({type(error).__name__}: {error})"


class StageFailed(RuntimeError):
    """A fault of one of the stages; the message names it."""


Loaded = Sequence[tuple[Step, Stage]]
"""Steps with the stages that take them."""


def load_steps(steps: Sequence[Step], release: Release, options: Mapping[str, str]) -> Loaded:
    """`steps` of `release`, loaded; every stage gets the same `options`."""
    return tuple((step, load_stage(step.stage, step.release(release), options)) for step in steps)


def run_steps(
    steps: Loaded, inputs: Arrays, observe: Observe = lambda model, seconds: None
) -> dict[str, Array]:
    """`inputs` and all that `steps` make of them, by the names that tensors have on the way.

    `observe` is told each step's model and seconds. Raises Unavailable where a stage does, and StageFailed.
    """
    tensors = dict(inputs)
    for step, stage in steps:
        began = time.perf_counter()
        # No more than Triton would hand to it.
        taken = {port.tensor: tensors[port.name] for port in step.inputs}
        try:
            made = stage(taken)
        except Unavailable:
            raise
        except Exception as error:
            raise StageFailed(failure(step.model, error)) from error
        tensors |= {port.name: made[port.tensor] for port in step.outputs if port.tensor in made}
        observe(step.model, time.perf_counter() - began)
    return tensors


class Pipeline(Stage):
    """All stages of a release, called in order; each is timed for `observe`."""

    name: ClassVar[str] = PIPELINE.name

    def __init__(self, steps: Loaded) -> None:
        self.steps = tuple(steps)
        sent = {tensor.name for tensor in PIPELINE.inputs}
        self._checking = [stage for step, stage in steps if any(port.name in sent for port in step.inputs)]

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """The pipeline of `release`; every stage gets the same `options`."""
        return cls(load_steps(Plan.of(release).steps, release, options))

    def check(self, inputs: Arrays) -> None:
        """Raise InvalidRequest where a stage would refuse what was sent."""
        for stage in self._checking:
            stage.check(inputs)

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        """Every tensor that the pipeline takes and makes, by its name on the way, ``[B, width]``.

        `inputs` are those of the ensemble, checked. Raises Unavailable where a stage does, and StageFailed.
        """
        return run_steps(self.steps, inputs, self.observe)
