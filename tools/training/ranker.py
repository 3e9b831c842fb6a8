"""The ranker: looks at every candidate together with the user, the history and the retrieval score.

What retrieval, one dot product, cannot see: the evidence of a linear item-to-item model (`evidence`), target
attention of each candidate over the history (Deep Interest Network, Zhou et al. 2018,
https://arxiv.org/abs/1706.06978) and explicit feature crosses (DCN-v2, Wang et al. 2021,
https://arxiv.org/abs/2008.13535). Evidence and learned part correct the retriever's log probability, so
that an untrained ranker without evidence keeps the retrieval order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tools.config.training import RankConfig
from tools.training.evidence import Evidence, Neighbours
from tools.training.features import Features
from tools.training.item_encoder import FeatureEmbedding, ItemEncoder


class Cross(nn.Module):
    """One DCN-v2 layer of low rank: x₀ ⊙ (U V x + b) + x."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(width, rank, bias=False)
        self.widen = nn.Linear(rank, width)

    def forward(self, first: Tensor, current: Tensor) -> Tensor:
        return first * self.widen(self.narrow(current)) + current


class TargetAttention(nn.Module):
    """What of the history matters to each candidate, with a learned preference for recent places."""

    def __init__(self, width: int, heads: int, history: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.recency = nn.Parameter(torch.zeros(heads, history))

    def forward(self, candidates: Tensor, history: Tensor, known: Tensor) -> Tensor:
        """`candidates` ``[B, K, d]``, `history` ``[B, L, d]``, `known` bool ``[B, L]`` → ``[B, K, d]``."""
        batch, places, width = candidates.shape
        length = history.shape[1]
        query = self.query(candidates).reshape(batch, places, self.heads, -1).transpose(1, 2)
        key = self.key(history).reshape(batch, length, self.heads, -1).transpose(1, 2)
        value = self.value(history).reshape(batch, length, self.heads, -1).transpose(1, 2)
        preference = self.recency[None, :, -length:].masked_fill(~known[:, None], -1e4)
        # One more column of the product, in place of two passes over [B, heads, K, L], the largest tensor.
        query = torch.cat([query / math.sqrt(query.shape[-1]), torch.ones_like(query[..., :1])], dim=-1)
        key = torch.cat([key, preference[..., None]], dim=-1)
        attention = (query @ key.transpose(-1, -2)).softmax(dim=-1)
        return (attention @ value).transpose(1, 2).reshape(batch, places, width)


class Ranker(nn.Module):
    """Logits over a user's candidates; their softmax is the probability of being the next item."""

    def __init__(
        self, config: RankConfig, features: Features, history: int, neighbours: Neighbours | None = None
    ) -> None:
        """`neighbours` are what `evidence` rests on; without any there is none."""
        super().__init__()
        width = config.width
        self.evidence = Evidence(neighbours or Neighbours.none(len(features.items) - 1))
        self.evidence_weight = config.evidence
        users = features.user_encoder
        self.items = ItemEncoder.of(features, width, std=0.05, modality_dropout=config.modality_dropout)
        self.user_embedding = FeatureEmbedding(users.fields, features.users.shape[1], users.code_count, width)
        self.recent = nn.Linear(width, width)
        self.attention = TargetAttention(width, config.heads, history)
        self.dropout = nn.Dropout(config.dropout)
        joint = 5 * width + 3
        self.norm = nn.LayerNorm(joint)
        self.crosses = nn.ModuleList(Cross(joint, width) for _ in range(config.crosses))
        self.deep = nn.Sequential(
            nn.Linear(joint, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
        )
        self.correction = nn.Linear(joint + config.hidden, 1)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        self.shrinkage = config.shrinkage

    def forward(
        self,
        user_features: Tensor,
        history: Tensor,
        candidates: Tensor,
        scores: Tensor,
        evidence: Tensor,
        vectors: Tensor,
    ) -> Tensor:
        """Logits, float ``[B, K]``.

        `user_features` int ``[B, F]``; `history` int ``[B, L]`` and `candidates` int ``[B, K]``, rows of
        `vectors` float ``[n, d]``, row 0 padding; `scores` float ``[B, K]`` the retriever's log
        probabilities; `evidence` float ``[B, K]`` what `self.evidence` gives for the item indices.
        """
        user = self.user_embedding(user_features.long())[:, None].expand(-1, candidates.shape[1], -1)
        vectors = self.dropout(vectors)
        past, candidate = vectors[history], vectors[candidates]
        attended = self.attention(candidate, past, history != 0)
        last = self.recent(past[:, -1:]).expand(-1, candidates.shape[1], -1)
        score = scores.unsqueeze(-1)
        best = score - score.amax(dim=1, keepdim=True)
        numbers = torch.cat([score / 10, best / 10, evidence.unsqueeze(-1)], dim=-1)
        joint = torch.cat(
            [candidate, attended, candidate * attended, candidate * last, user, numbers], dim=-1
        )
        joint = self.norm(joint)
        crossed = joint
        for cross in self.crosses:
            crossed = cross(joint, crossed)
        correction = self.correction(torch.cat([crossed, self.deep(joint)], dim=-1)).squeeze(-1)
        scores = scores + self.evidence_weight * evidence
        # Learned beside a weaker retriever, and from few events: the whole correction would go too far.
        return scores + (correction if self.training else self.shrinkage * correction)
