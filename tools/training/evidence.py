"""Evidence from items to items: how much each item of a history speaks for a candidate.

A linear model that knows no order (EASE, Steck 2019, https://arxiv.org/abs/1905.03375) is weaker than a
sequence model alone, but errs in other places, so the ranker gets what both say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from tools.data.interactions import Interactions
from tools.evaluation.baselines import EASE, CatalogueTooLargeError


@dataclass(frozen=True)
class Neighbours:
    """For each item the items that it speaks for or against most.

    Attributes:
        items: int32 ``[I + 1, M]``, item indices; row 0 is padding.
        weights: float32 ``[I + 1, M]``, EASE's weights; 0 in unused places.
    """

    items: NDArray[np.int32]
    weights: NDArray[np.float32]

    @classmethod
    def none(cls, n_items: int) -> Self:
        """No evidence at all, for a catalogue of `n_items`."""
        return cls(np.zeros((n_items + 1, 1), dtype=np.int32), np.zeros((n_items + 1, 1), dtype=np.float32))

    @classmethod
    def of(cls, interactions: Interactions, count: int) -> Self:
        """The `count` greatest weights by size of each item, learned from `interactions`.

        None where `count` is 0 or the catalogue is too large for the closed form.
        """
        count = min(count, interactions.n_items)
        try:
            weights = EASE().fit(interactions).weights if count else None
        except CatalogueTooLargeError:
            weights = None
        if weights is None:
            return cls.none(interactions.n_items)
        items = np.argpartition(-np.abs(weights), count - 1, axis=1)[:, :count]
        chosen = np.take_along_axis(weights, items, axis=1)
        # Padding speaks for nothing, and nothing for padding.
        chosen[0] = 0
        chosen[items == 0] = 0
        return cls(items.astype(np.int32), chosen.astype(np.float32))


class Evidence(nn.Module):
    """Sums the weights of a history's items for each candidate, and standardises them over the candidates."""

    items: Tensor
    weights: Tensor
    unmet: Tensor | None

    def __init__(self, neighbours: Neighbours) -> None:
        super().__init__()
        self._speaks = bool(neighbours.weights.any())
        self.register_buffer("unmet", None, persistent=False)
        self.register_buffer("items", torch.from_numpy(neighbours.items).long(), persistent=False)
        self.register_buffer("weights", torch.from_numpy(neighbours.weights), persistent=False)

    def forward(self, history: Tensor, candidates: Tensor, pairs: Tensor | None = None) -> Tensor:
        """Float ``[B, K]`` with mean 0 and deviation 1 in each row, or all 0.

        `history` int ``[B, L]`` and `candidates` int ``[B, K]`` are item indices. With `pairs`, which the
        method of that name gives, whole rows are added up instead of each weight by itself.
        """
        if not self._speaks:
            # Sums over a large catalogue, which never has evidence, would take longer than all else here.
            return torch.zeros_like(candidates, dtype=self.weights.dtype)
        if pairs is None:
            history = history.long()
            total = torch.zeros(history.shape[0], self.items.shape[0], device=history.device)
            total = total.scatter_add(1, self.items[history].flatten(1), self.weights[history].flatten(1))
        else:
            total = functional.embedding(history, pairs).sum(dim=1)
        evidence = total.gather(1, candidates.long())
        centred = evidence - evidence.mean(dim=1, keepdim=True)
        deviation = (centred * centred).mean(dim=1, keepdim=True).sqrt()
        return centred / (deviation + 1e-6)

    def pairs(self, rows: int) -> Tensor | None:
        """The weight of each item for each other, float ``[I + 1, I + 1]``.

        None where there are more than `rows` of them, or there is no evidence.
        """
        if not self._speaks or len(self.items) > rows:
            return None
        table = torch.zeros(len(self.items), len(self.items))
        return table.scatter_add(1, self.items, self.weights)

    def leave_out(self, unmet: NDArray[np.bool_]) -> None:
        """Let `completed` fill in for the items in `unmet`, bool ``[I + 1]``, which nobody has met."""
        if unmet[1:].any():
            self.register_buffer("unmet", torch.from_numpy(unmet), persistent=False)

    def completed(self, evidence: Tensor, candidates: Tensor, scores: Tensor) -> Tensor:
        """`evidence` with, for items that nobody has met, what candidates with such a score usually have.

        There is no evidence for them, which is not evidence against them. Each row's regression of `evidence`
        on the retrieval `scores`, all ``[B, K]``, says what to expect. Without unmet items nothing changes.
        """
        if self.unmet is None:
            return evidence
        missing = self.unmet[candidates.long()]
        known = (~missing & (candidates != 0)).to(evidence.dtype)
        count = known.sum(dim=1, keepdim=True).clamp(min=1)
        mean_score = (scores * known).sum(dim=1, keepdim=True) / count
        mean = (evidence * known).sum(dim=1, keepdim=True) / count
        distance = (scores - mean_score) * known
        spread = (distance * distance).sum(dim=1, keepdim=True).clamp(min=1e-6)
        slope = (distance * (evidence - mean)).sum(dim=1, keepdim=True) / spread
        return torch.where(missing & (candidates != 0), mean + slope * (scores - mean_score), evidence)
