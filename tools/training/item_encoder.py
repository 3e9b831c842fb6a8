"""Vectors from feature codes, and item vectors from id and features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn


class CodedField(Protocol):
    """Where a field's codes stand among an encoder's columns."""

    @property
    def start(self) -> int: ...

    @property
    def slots(self) -> int: ...


class FeatureEmbedding(nn.Module):
    """Feature codes to one vector: the mean over each field's codes, summed over fields.

    Code 0 (missing, unknown, padding) adds nothing.
    """

    pool: Tensor

    def __init__(self, fields: Sequence[CodedField], columns: int, code_count: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(max(code_count, 1), width, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.02)
        with torch.no_grad():
            self.embedding.weight[0] = 0
        pool = torch.zeros(columns, columns)
        for field in fields:
            pool[field.start : field.start + field.slots, field.start : field.start + field.slots] = 1
        self.register_buffer("pool", pool, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """``[..., columns]`` integer codes to ``[..., width]``."""
        present = (codes != 0).to(self.embedding.weight.dtype)
        # How many codes the field of each column holds: dividing by it makes the sum a mean per field.
        counts = (present @ self.pool).clamp(min=1)
        weight = present / counts
        return (self.embedding(codes) * weight.unsqueeze(-1)).sum(dim=-2)


class ItemEncoder(nn.Module):
    """Item vectors: an embedding of the id plus the item's features.

    The features let items with few events borrow from similar ones. Row 0 is padding.
    """

    codes: Tensor

    def __init__(
        self, fields: Sequence[CodedField], codes: Tensor, code_count: int, width: int, *, std: float = 0.02
    ) -> None:
        """`codes` are the items' feature codes, int ``[I + 1, columns]``, row 0 all zero."""
        super().__init__()
        self.identity = nn.Embedding(codes.shape[0], width, padding_idx=0)
        nn.init.normal_(self.identity.weight, std=std)
        with torch.no_grad():
            self.identity.weight[0] = 0
        self.features = FeatureEmbedding(fields, codes.shape[1], code_count, width)
        self.register_buffer("codes", codes.long(), persistent=False)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Vectors of `items` (any shape of indices), or of the whole catalogue ``[I + 1, width]``."""
        if items is None:
            # Looked up, not taken as it is: the lookup keeps gradients away from row 0.
            every = torch.arange(len(self.codes), device=self.codes.device)
            return self.identity(every) + self.features(self.codes)
        return self.identity(items) + self.features(self.codes[items])

    def table(self, *items: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Vectors ``[n, width]`` for a training step over `items`, and each of `items` as rows of them.

        Embedding features is the costly part, so every item is embedded once: those that occur, or the
        whole catalogue where it is smaller than the step. Row 0 stays padding.
        """
        if len(self.codes) <= sum(part.numel() for part in items):
            return self(), [part.long() for part in items]
        padding = torch.zeros(1, dtype=torch.long, device=self.codes.device)
        flat = torch.cat([padding, *(part.reshape(-1).long() for part in items)])
        unique, rows = torch.unique(flat, return_inverse=True)
        parts = rows[1:].split([part.numel() for part in items])
        return self(unique), [part.reshape(whole.shape) for part, whole in zip(parts, items, strict=True)]
