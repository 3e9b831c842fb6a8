"""The committed model repository says what the contract says."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup
from tritonrec_client.contract import (
    MODELS,
    PIPELINE,
    RECOMMEND,
    RETRIEVE_AND_RANK,
    STAGES,
    Model,
    Sizes,
    Tensor,
)

from tools.serving.model_files import read_config
from tools.serving.repository import SOURCE

CONFIGS = sorted(SOURCE.glob("*/config.pbtxt"))
STAGE_NAMES = [stage.name for stage in STAGES]
COMPUTING = [*STAGE_NAMES, PIPELINE.name, RETRIEVE_AND_RANK.name]
PROFILES = {
    "local": (PIPELINE,),
    "staged": STAGES,
    "gpu": STAGES,
    "gpu_torch": (STAGES[0], RETRIEVE_AND_RANK, STAGES[-1]),
}
"""What the ensemble consists of in each profile."""


def config_of(model: str) -> ModelConfig:
    return read_config(SOURCE / model / "config.pbtxt")


def ensemble_in(profile: str) -> ModelConfig:
    local = profile == "local"
    return read_config(SOURCE / RECOMMEND.name / ("config.pbtxt" if local else f"configs/{profile}.pbtxt"))


def described(tensors: Iterable[Any]) -> dict[str, tuple[int, list[int]]]:
    return {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in tensors}


def promised(tensors: Iterable[Tensor]) -> dict[str, tuple[int, list[int]]]:
    types = {"INT64": 9, "INT32": 8, "FP32": 11}  # DataType in Triton's model_config.proto
    return {tensor.name: (types[tensor.dtype], [tensor.resolve(Sizes())]) for tensor in tensors}


def test_every_model_of_the_contract_has_a_configuration() -> None:
    assert {path.parent.name for path in CONFIGS} >= set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_tensors_have_the_names_types_and_default_widths_of_the_contract(model: str) -> None:
    config = config_of(model)

    assert config.name == model
    assert described(config.input) == promised(MODELS[model].inputs)
    assert described(config.output) == promised(MODELS[model].outputs)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_keeps_the_batch_and_none_has_an_optional_input(model: str) -> None:
    config = config_of(model)

    assert config.max_batch_size == config_of(RECOMMEND.name).max_batch_size
    assert not any(tensor.optional for tensor in config.input)


@pytest.mark.parametrize("stage", COMPUTING)
def test_a_stage_is_warmed_with_one_row_and_with_a_batch_as_under_load(stage: str) -> None:
    config = config_of(stage)

    # A card prepares every batch size on its own.
    most = config.max_batch_size if config.instance_group[0].kind == ModelInstanceGroup.KIND_GPU else 16
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, most]
    for warmup in config.model_warmup:
        samples = {name: (sample.data_type, list(sample.dims)) for name, sample in warmup.inputs.items()}
        assert samples == promised(MODELS[stage].inputs)
        assert all(sample.zero_data for sample in warmup.inputs.values())


@pytest.mark.parametrize("stage", COMPUTING)
def test_a_stage_batches_knows_its_release_and_caps_its_threads(stage: str) -> None:
    config = config_of(stage)

    assert config.HasField("dynamic_batching")
    assert config.parameters["threads"].string_value == "1"
    assert "release_dir" in config.parameters


@pytest.mark.parametrize("stage", COMPUTING)
def test_no_stage_has_a_queue_policy_because_the_batcher_then_overlooks_requests(stage: str) -> None:
    assert not config_of(stage).dynamic_batching.HasField("default_queue_policy")


@pytest.mark.parametrize(("profile", "models"), PROFILES.items(), ids=list(PROFILES))
def test_the_ensemble_connects_every_tensor_that_is_used_under_its_own_name(
    profile: str, models: tuple[Model, ...]
) -> None:
    steps = {step.model_name: step for step in ensemble_in(profile).ensemble_scheduling.step}
    # Triton refuses an ensemble with a tensor that nothing uses.
    used = {tensor for model in models for tensor in model.inputs} | set(RECOMMEND.outputs)

    assert list(steps) == [model.name for model in models]
    for model in models:
        outputs = [tensor.name for tensor in model.outputs if tensor in used]
        assert dict(steps[model.name].input_map) == {tensor.name: tensor.name for tensor in model.inputs}
        assert dict(steps[model.name].output_map) == {name: name for name in outputs}


def test_the_profiles_of_the_ensemble_differ_in_nothing_but_its_steps() -> None:
    configs = [ensemble_in(profile) for profile in PROFILES]
    for config in configs:
        config.ClearField("ensemble_scheduling")

    assert all(config == configs[0] for config in configs)


def test_the_model_of_all_stages_has_the_parameters_of_each_of_them() -> None:
    parameters = set().union(*(config_of(stage).parameters for stage in STAGE_NAMES))

    assert set(config_of(PIPELINE.name).parameters) == parameters


@pytest.mark.parametrize("models", PROFILES.values(), ids=list(PROFILES))
def test_every_step_takes_only_what_the_request_or_an_earlier_step_gives(models: tuple[Model, ...]) -> None:
    known = {tensor.name for tensor in RECOMMEND.inputs}
    for stage in models:
        assert {tensor.name for tensor in stage.inputs} <= known
        known |= {tensor.name for tensor in stage.outputs}

    assert {tensor.name for tensor in RECOMMEND.outputs} <= known


def test_the_models_files_differ_in_nothing_but_the_name_of_the_model() -> None:
    texts = {
        (SOURCE / model / "1" / "model.py").read_text(encoding="utf-8").replace(model, "MODEL")
        for model in COMPUTING
    }

    assert len(texts) == 1
    ast.parse(texts.pop())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_every_choice_stands_under_a_comment_that_says_why(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for before, line in itertools.pairwise(lines):
        if line.startswith(("max_batch_size", "instance_group", "parameters", "model_warmup")):
            assert before.startswith("#"), f"{path}: no comment above {line!r}"


@pytest.mark.parametrize("stage", ["retrieve", "rank"])
def test_a_stage_that_tensorrt_computes_differs_from_the_other_profiles_in_nothing_but_who_computes_it(
    stage: str,
) -> None:
    local, gpu = config_of(stage), read_config(SOURCE / stage / "configs" / "gpu.pbtxt")

    assert gpu.platform == "tensorrt_plan"
    assert [group.kind for group in gpu.instance_group] == [ModelInstanceGroup.KIND_GPU]
    # Whatever card there is: without a plan of its own it must not find another's.
    assert not gpu.cc_model_filenames
    assert not gpu.default_model_filename
    # A card has memory for a full batch ready before the first one comes.
    assert [warmup.batch_size for warmup in gpu.model_warmup] == [1, gpu.max_batch_size]
    for ours, theirs in zip(gpu.model_warmup, local.model_warmup, strict=True):
        assert ours.inputs == theirs.inputs
    for config in (local, gpu):
        for field in ("backend", "platform", "instance_group", "parameters", "model_warmup"):
            config.ClearField(field)
    assert gpu == local
