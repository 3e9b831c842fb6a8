"""Target attention: what of the history matters to each candidate."""

from __future__ import annotations

import torch
from torch import Tensor

from tools.config.rankers import TargetAttentionRanker
from tools.rankers.pointwise import NUMBERS, PointwiseModel, Tower, View, silent
from tools.training.features import Features
from tools.training.ranker import TargetAttention


class AttentionRanker(PointwiseModel):
    """A deep network over the candidate and the part of the history that it calls for.

    Deep Interest Network (DIN, Zhou et al. 2018, https://arxiv.org/abs/1706.06978). The weight of a pair of
    history item and candidate is a scaled dot product with a learned preference for recent places, in place
    of the paper's small network for each pair: that one would be run K · L times for a request. What was
    attended to is the mean by these weights, which add up to 1.
    """

    def __init__(self, config: TargetAttentionRanker, features: Features, history: int) -> None:
        super().__init__(config, features)
        width = config.width
        self.attention = TargetAttention(width, config.heads, history)
        self.tower = Tower(2 * width, 3 * width + NUMBERS, config.hidden, config.dropout)
        self.last = silent(config.hidden)

    def correction(self, view: View) -> Tensor:
        candidate = view.candidate
        attended = self.attention(candidate, view.past, view.known)
        user = torch.cat([view.user, view.mean], dim=-1)
        known = torch.cat([candidate, attended, candidate * attended, view.numbers], dim=-1)
        return self.last(self.tower(user, known)).squeeze(-1)
