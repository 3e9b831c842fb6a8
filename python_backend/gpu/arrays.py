"""PyTorch's tensors to and from Triton, through DLPack: no copy, and no numpy, lies between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.utils.dlpack


class TorchArrays:
    """PyTorch's tensors, each on the device that it is on.

    What Triton hands over lies where Triton has it: in the processor's memory, or with the model's parameter
    FORCE_CPU_ONLY_INPUT_TENSORS set to no on the card where the model before it left it.
    """

    dtypes: Mapping[str, Any] = {"INT32": torch.int32, "INT64": torch.int64, "FP32": torch.float32}

    def concatenate(self, arrays: Sequence[Any]) -> Any:
        return torch.cat(list(arrays))

    def full(self, rows: int, value: int) -> Any:
        return torch.full((rows, 1), value, dtype=torch.int64)

    def from_triton(self, tensor: Any) -> Any:
        return torch.utils.dlpack.from_dlpack(tensor.to_dlpack())

    def to_triton(self, tensor_type: Any, name: str, array: Any) -> Any:
        return tensor_type.from_dlpack(name, array)


TORCH = TorchArrays()
