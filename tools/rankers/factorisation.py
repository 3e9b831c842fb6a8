"""NeuMF: matrix factorisation and a deep network side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tools.config.rankers import NeuMFRanker
from tools.rankers.pointwise import NUMBERS, PointwiseModel, Tower, View, silent
from tools.training.features import Features


class NeuMF(PointwiseModel):
    """Generalised matrix factorisation beside a deep network, each with item vectors of its own.

    He et al. 2017, https://arxiv.org/abs/1708.05031. The paper learns a vector for each user; here it is a
    projection of the mean of the history's item vectors, plus the user's features (as in FISM, Kabbur et al.
    2013, https://doi.org/10.1145/2487575.2487589), so that whom training did not meet has one as well. The
    deep part also sees what retrieval thinks.
    """

    def __init__(self, config: NeuMFRanker, features: Features, history: int) -> None:
        super().__init__(config, features, item_width=2 * config.width)
        width = config.width
        self.of_history = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2))
        self.of_features = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.tower = Tower(width, width + NUMBERS, config.hidden, config.dropout)
        self.last = silent(width + config.hidden)

    def correction(self, view: View) -> Tensor:
        linear_mean, deep_mean = view.mean.chunk(2, dim=-1)
        linear_item, deep_item = view.candidate.chunk(2, dim=-1)
        linear_user = self.of_history[0](linear_mean) + self.of_features[0](view.user)
        deep_user = self.of_history[1](deep_mean) + self.of_features[1](view.user)
        factors = linear_user.unsqueeze(1) * linear_item
        deep = self.tower(deep_user, torch.cat([deep_item, view.numbers], dim=-1))
        return self.last(torch.cat([factors, deep], dim=-1)).squeeze(-1)
