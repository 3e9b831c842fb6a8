"""The stages in one process, one after the other: what an ensemble of them does, without its copies."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from tritonrec_client.contract import MODELS, PIPELINE, RETRIEVE_AND_RANK, STAGES

from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, InvalidRequest, Stage, Unavailable

STAGE_CLASSES = {
    "feature_lookup": "python_backend.stages.feature_lookup:FeatureLookup",
    "retrieve": "python_backend.stages.retrieve:Retrieve",
    "rank": "python_backend.stages.rank:Rank",
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


class Pipeline(Stage):
    """All stages of a release, called in order; each is timed for `observe`."""

    name: ClassVar[str] = PIPELINE.name

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """The pipeline of `release`; every stage gets the same `options`."""
        return cls([load_stage(stage.name, release, options) for stage in STAGES])

    def check(self, inputs: Arrays) -> None:
        """Raise InvalidRequest where a stage would refuse what was sent, or an input is missing."""
        sent = {tensor.name for tensor in PIPELINE.inputs}
        for name in sorted(sent - inputs.keys()):
            raise InvalidRequest(name, "nothing", "one tensor; every input is required")
        for stage in self.stages:
            if sent & {tensor.name for tensor in MODELS[stage.name].inputs}:
                stage.check(inputs)

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        """Every tensor that the pipeline takes and makes, by the contract's names, ``[B, width]``.

        `inputs` are those of the ensemble. Raises InvalidRequest before any stage runs, Unavailable where a
        stage does, and StageFailed.
        """
        self.check(inputs)
        tensors = dict(inputs)
        for stage in self.stages:
            began = time.perf_counter()
            # No more than Triton would hand to it.
            taken = {tensor.name: tensors[tensor.name] for tensor in MODELS[stage.name].inputs}
            try:
                tensors |= stage(taken)
            except Unavailable:
                raise
            except Exception as error:
                raise StageFailed(failure(stage.name, error)) from error
            self.observe(stage.name, time.perf_counter() - began)
        return tensors
