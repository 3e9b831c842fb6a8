"""Rankers that are a deep network over vectors: by itself, or beside feature crosses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tools.config.rankers import CrossRanker, DnnRanker
from tools.rankers.pointwise import NUMBERS, PointwiseModel, Tower, View, silent
from tools.training.features import Features
from tools.training.ranker import Cross


class Dnn(PointwiseModel):
    """A deep network over the candidate, the mean of the history, its newest item and the user.

    As the ranking network of Covington et al. 2016 (https://research.google/pubs/pub45530/), which likewise
    takes a mean for the history.
    """

    def __init__(self, config: DnnRanker, features: Features, history: int) -> None:
        super().__init__(config, features)
        width = config.width
        self.tower = Tower(3 * width, 3 * width + NUMBERS, config.hidden, config.dropout)
        self.last = silent(config.hidden)

    def correction(self, view: View) -> Tensor:
        newest = view.past[:, -1]
        user = torch.cat([view.user, view.mean, newest], dim=-1)
        candidate = view.candidate
        matched = candidate * view.mean.unsqueeze(1)
        followed = candidate * newest.unsqueeze(1)
        known = torch.cat([candidate, matched, followed, view.numbers], dim=-1)
        return self.last(self.tower(user, known)).squeeze(-1)


class DeepAndCross(PointwiseModel):
    """Explicit feature crosses beside a deep network (DCN-v2, Wang et al. 2021).

    https://arxiv.org/abs/2008.13535, in the parallel form, with cross layers of low rank. The crossed vector
    is candidate, mean of the history, newest item, user and what retrieval thinks.
    """

    def __init__(self, config: CrossRanker, features: Features, history: int) -> None:
        super().__init__(config, features)
        width = config.width
        joint = 4 * width + NUMBERS
        self.norm = nn.LayerNorm(joint)
        self.crosses = nn.ModuleList(Cross(joint, width) for _ in range(config.crosses))
        self.tower = Tower(3 * width, width + NUMBERS, config.hidden, config.dropout)
        self.last = silent(joint + config.hidden)

    def correction(self, view: View) -> Tensor:
        user = torch.cat([view.user, view.mean, view.past[:, -1]], dim=-1)
        known = torch.cat([view.candidate, view.numbers], dim=-1)
        beside = user.unsqueeze(1).expand(-1, known.shape[1], -1)
        first = self.norm(torch.cat([known, beside], dim=-1))
        crossed = first
        for cross in self.crosses:
            crossed = cross(first, crossed)
        return self.last(torch.cat([crossed, self.tower(user, known)], dim=-1)).squeeze(-1)
