"""The part of a build's TOML file that is about GPUs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tools.config.training import Section

Profile = Literal["gpu", "gpu_torch"]
"""What a build can write besides what needs no GPU: graphs for TensorRT, programs for PyTorch."""

PlanPrecision = Literal["fp32", "fp16", "int8", "fp8"]


class GpuConfig(Section):
    """[gpu]: how the graphs for TensorRT are built, where `profiles` names gpu."""

    precision: PlanPrecision = Field(
        "fp16",
        description="int8 and fp8 store the weights of matrix products in 8 bits, the rest is fp16;"
        " fp8 needs a card of compute capability 8.9 or later",
    )
    optimum_batch: int = Field(
        8, ge=1, description="rows of the batch that plans are fastest for; they take 1 to the models' most"
    )
