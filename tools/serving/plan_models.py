"""The models of a release with steps of its own: one for each step, and their ensemble."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonrec_client.contract import RECOMMEND, RETRIEVE_AND_RANK, names_release

from python_backend.plan import Plan, Port, Step
from tools.serving.model_files import CONFIG, config_files, read_config, write_config

STAGED = "staged.pbtxt"
"""The profile in which each step is a model of its own."""


def write_plan_models(plan: Plan, folder: Path, *, source: Path) -> None:
    """Put the models of `plan` into `folder`, which holds a release's models as the contract has them.

    Each step is written from the committed model of its stage in `source`. Stages that are no steps go, and
    so do the profiles that need a GPU: they know one retriever and one ranker.
    """
    for model in ("retrieve", "rank", RETRIEVE_AND_RANK.name):
        shutil.rmtree(folder / model)
    for step in plan.steps:
        _write_step(step, folder / step.model, source)
    ensemble = folder / RECOMMEND.name
    for path in config_files(ensemble)[1:]:
        if path.name != STAGED:
            path.unlink()
    config = read_config(ensemble / "configs" / STAGED)
    _connect(config, plan)
    write_config(config, ensemble / "configs" / STAGED)


def _write_step(step: Step, target: Path, source: Path) -> None:
    config = read_config(source / step.stage / CONFIG)
    if not target.exists():
        shutil.copytree(
            source / step.stage, target, ignore=shutil.ignore_patterns("__pycache__", ".gitkeep", "configs")
        )
    config.name = step.model
    config.parameters["step"].string_value = step.model
    _declare(config.input, step.inputs)
    _declare(config.output, step.outputs)
    for warmup in config.model_warmup:
        warmup.inputs.clear()
        for port in step.inputs:
            sample = warmup.inputs[port.tensor]
            sample.data_type, sample.zero_data = _data_type(port), True
            sample.dims[:] = [port.width]
    write_config(config, target / CONFIG)


def _declare(tensors: Any, ports: Sequence[Port]) -> None:
    """Make the inputs or outputs of a configuration those of `ports`."""
    del tensors[:]
    for port in ports:
        tensors.add(name=port.tensor, data_type=_data_type(port), dims=[port.width])


def _data_type(port: Port) -> int:
    number: int = (
        ModelConfig.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_name[f"TYPE_{port.dtype}"].number
    )
    return number


def _connect(config: ModelConfig, plan: Plan) -> None:
    """Make the steps of an ensemble those of `plan`; every step says which release it belongs to."""
    del config.ensemble_scheduling.step[:]
    given = {tensor.name for tensor in config.output}
    for step in plan.steps:
        added = config.ensemble_scheduling.step.add(model_name=step.model, model_version=-1)
        for port in step.inputs:
            added.input_map[port.tensor] = port.name
        for port in step.outputs:
            added.output_map[port.tensor] = port.name
            if names_release(port.name) and port.name not in given:
                config.output.add(name=port.name, data_type=_data_type(port), dims=[port.width])
