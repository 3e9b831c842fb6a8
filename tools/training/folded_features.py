"""Feature codes to a vector, as they are exported."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from tools.training.item_encoder import FeatureEmbedding


class FoldedFeatures(nn.Module):
    """What a trained `FeatureEmbedding` says of codes int ``[B, columns]``, plus a constant, ``[B, d]``.

    Where no field has several codes there are no means, so the vectors are added up as they are, and each
    brings its share of the constant.
    """

    table: Tensor
    constant: Tensor

    @torch.no_grad()
    def __init__(self, features: FeatureEmbedding, constant: Tensor | None = None) -> None:
        """`constant` float ``[d]``, by default zeros."""
        super().__init__()
        table, columns = features.embedding.weight.detach(), len(features.pool)
        constant = torch.zeros(table.shape[1]) if constant is None else constant.detach()
        several = (features.pool * (1 - torch.eye(columns))).any()
        self.features = features if several else None
        self.register_buffer("table", table + constant / columns)
        self.register_buffer("constant", constant.clone())

    def forward(self, codes: Tensor) -> Tensor:
        if self.features is None:
            return functional.embedding(codes, self.table).sum(dim=1)
        return cast(Tensor, self.constant + self.features(codes.long()))
