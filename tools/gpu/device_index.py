"""An index of a made-up catalogue, made on the card; the processor would take minutes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from python_backend.item_index import CODE_LIMIT, NEVER
from tools.gpu.catalogue import Catalogue

AT_ONCE = 1 << 20


@dataclass(frozen=True)
class DeviceIndex:
    """What `python_backend.item_index.ItemIndex` holds, its large arrays on a device of PyTorch."""

    codes: Tensor
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]
    vectors: Tensor
    code_error: float
    longest: float

    @classmethod
    def of(cls, catalogue: Catalogue) -> DeviceIndex:
        """The index of `catalogue`, by the formulas of `ItemIndex.of`."""
        vectors = catalogue.vectors.float()
        codes = torch.empty(vectors.shape, dtype=torch.int8, device=vectors.device)
        scales, code_error, longest = [], 0.0, 0.0
        for begin in range(0, len(vectors), AT_ONCE):
            rows = vectors[begin : begin + AT_ONCE]
            scale = rows.abs().amax(dim=1) / CODE_LIMIT
            divisor = torch.where(scale > 0, scale, 1.0).unsqueeze(1)
            steps = (rows / divisor).round()
            decoded = steps * scale.unsqueeze(1)
            codes[begin : begin + len(rows)] = steps.to(torch.int8)
            scales.append(scale)
            code_error = max(code_error, float(((rows - decoded).norm(dim=1, keepdim=True) / divisor).max()))
            longest = max(longest, float(rows.norm(dim=1).max()), float(decoded.norm(dim=1).max()))
        bias = catalogue.bias.cpu().numpy().copy()
        bias[0] = NEVER
        return cls(codes, torch.cat(scales).cpu().numpy(), bias, vectors, code_error, longest)
