"""Vectors from feature codes, and item vectors from id, features and what the user brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Self

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

if TYPE_CHECKING:
    from tools.training.features import Features


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


LEAST_SPREAD = 1e-4
"""How far vectors of length 1 are from their mean, at least, where they are told apart."""


class Modality(nn.Module):
    """Vectors of one kind that the data bring (image, audio, text, …), projected into the item vectors.

    An item without one has a learned vector instead. In training a share `dropout` of the items is treated
    as such (Neverova et al. 2015, https://arxiv.org/abs/1501.00102), so that the others do not lean on it.
    """

    vectors: Tensor
    known: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, vectors: Tensor, width: int, *, std: float, dropout: float) -> None:
        """`vectors` float ``[I + 1, n]``; a row of zeros is an item without one."""
        super().__init__()
        known = (vectors != 0).any(dim=1)
        centre = vectors.sum(dim=0) / known.sum().clamp(min=1)
        spread = (vectors[known] - centre).square().sum() / known.sum().clamp(min=1)
        self.register_buffer("vectors", vectors, persistent=False)
        self.register_buffer("known", known, persistent=False)
        # Vectors of encoders share a large mean. A refresh goes on with what the projection was trained for.
        self.register_buffer("centre", centre)
        # One vector, or the same one again and again, says nothing about how far apart others will be.
        self.register_buffer("scale", spread.rsqrt() if spread > LEAST_SPREAD**2 else torch.ones(()))
        self.projection = nn.Linear(vectors.shape[1], width, bias=False)
        nn.init.normal_(self.projection.weight, std=std)
        self.missing = nn.Parameter(torch.zeros(width))
        self.dropout = dropout

    def forward(self, items: Tensor) -> Tensor:
        """``[...]`` item indices to ``[..., width]``; padding stays zero."""
        # (x - centre) * scale, without two more copies of all vectors.
        weight = self.projection.weight * self.scale
        projected = functional.linear(self.vectors[items], weight, -(weight @ self.centre))
        known = self.known[items]
        if self.training and self.dropout:
            known = known & (torch.rand(known.shape, device=known.device) >= self.dropout)
        return torch.where(known[..., None], projected, self.missing) * (items != 0)[..., None]


class ItemEncoder(nn.Module):
    """Item vectors: an embedding of the id plus the item's features and the vectors that the data bring.

    What describes items lets those with few events borrow from similar ones. Row 0 is padding.
    """

    codes: Tensor

    def __init__(
        self,
        fields: Sequence[CodedField],
        codes: Tensor,
        code_count: int,
        width: int,
        *,
        std: float = 0.02,
        vectors: Mapping[str, Tensor] | None = None,
        modality_dropout: float = 0.0,
    ) -> None:
        """`codes` are the items' feature codes, int ``[I + 1, columns]``, row 0 all zero.

        `vectors` are what the data bring, by name, each float ``[I + 1, n]``.
        """
        super().__init__()
        self.identity = nn.Embedding(codes.shape[0], width, padding_idx=0)
        nn.init.normal_(self.identity.weight, std=std)
        with torch.no_grad():
            self.identity.weight[0] = 0
        self.features = FeatureEmbedding(fields, codes.shape[1], code_count, width)
        self.register_buffer("codes", codes.long(), persistent=False)
        # A module's own names ("type", "keys") cannot be names in it.
        self.modalities = nn.ModuleDict(
            {
                f"{name}_vectors": Modality(brought, width, std=std, dropout=modality_dropout)
                for name, brought in sorted((vectors or {}).items())
            }
        )

    @classmethod
    def of(cls, features: Features, width: int, *, std: float = 0.02, modality_dropout: float = 0.0) -> Self:
        """An encoder of the items that `features` describe."""
        encoder = features.item_encoder
        return cls(
            encoder.fields,
            torch.from_numpy(features.items),
            encoder.code_count,
            width,
            std=std,
            vectors={name: torch.from_numpy(brought) for name, brought in features.vectors.items()},
            modality_dropout=modality_dropout,
        )

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Vectors of `items` (any shape of indices), or of the whole catalogue ``[I + 1, width]``."""
        if items is None:
            # Looked up, not taken as it is: the lookup keeps gradients away from row 0.
            items = torch.arange(len(self.codes), device=self.codes.device)
        return self.identity(items) + self.described(items)

    def described(self, items: Tensor) -> Tensor:
        """What features and brought vectors say of `items`, ``[..., width]``: all that a new item has."""
        found: Tensor = self.features(self.codes[items])
        for modality in self.modalities.values():
            found = found + modality(items)
        return found

    @torch.no_grad()
    def hold(self, vectors: Tensor) -> None:
        """Let every item's vector be that of `vectors`, float ``[I + 1, width]``, whatever describes it."""
        self.features.embedding.weight.zero_()
        for modality in self.modalities.values():
            assert isinstance(modality, Modality)
            modality.projection.weight.zero_()
            modality.missing.zero_()
        self.identity.weight.copy_(vectors)

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
