"""What computes the models that can do without a GPU, but are made for one."""

from __future__ import annotations

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

DEVICE = "device"
"""The parameter that says so in these models' configurations."""
CUDA, CPU = "cuda", "cpu"


def place(config: ModelConfig) -> None:
    """Have Triton run a model's processes where its parameter `DEVICE` says, if it has one."""
    if DEVICE in config.parameters and config.parameters[DEVICE].string_value == CPU:
        # Triton refuses a model of KIND_GPU on a machine that has none.
        for group in config.instance_group:
            group.kind = ModelInstanceGroup.KIND_CPU
