"""Logistic regression: one weight for each thing that is known, and for some crosses of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tools.config.rankers import LogisticRanker
from tools.rankers.pointwise import PointwiseModel, View
from tools.training.features import Features


class Logistic(PointwiseModel):
    """Weights of the item, of its feature codes, of the user's, and of what the history shares with it.

    A feature code of a candidate counts twice: by itself, and times the share of the history's items that
    have it. Everything is a sum of weights, so each can be read.
    """

    codes: Tensor

    def __init__(self, config: LogisticRanker, features: Features, history: int) -> None:
        super().__init__(config, features, item_width=1)
        nn.init.zeros_(self.items.identity.weight)
        nn.init.zeros_(self.items.features.embedding.weight)
        self.register_buffer("codes", torch.from_numpy(features.items).long(), persistent=False)
        self.code_count = max(features.item_encoder.code_count, 1)
        self.shared = nn.Parameter(torch.zeros(self.code_count))
        self.user = nn.Linear(config.width, 1)
        nn.init.zeros_(self.user.weight)
        nn.init.zeros_(self.user.bias)

    def correction(self, view: View) -> Tensor:
        past = self.codes[view.history_items].flatten(1)
        counts = torch.zeros(past.shape[0], self.code_count, device=past.device)
        counts = counts.scatter_add(1, past, torch.ones_like(past, dtype=counts.dtype))
        # Of code 0, which is no code, nothing is shared.
        present = (torch.arange(self.code_count, device=past.device) != 0).to(counts.dtype)
        shares = counts * present / view.known.sum(dim=1, keepdim=True).clamp(min=1)
        codes = self.codes[view.candidate_items]
        crossed = (shares * self.shared).gather(1, codes.flatten(1)).reshape(codes.shape).sum(dim=-1)
        return view.candidate.squeeze(-1) + crossed + self.user(view.user)
