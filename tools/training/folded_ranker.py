"""The ranker as it is exported: what `RankGraph` says, to the last digits, in fewer and cheaper operations.

Everything here follows from the trained weights alone, so there is nothing to measure but time:

- The last cross layer is only ever summed up, so it need not be as wide as its input: with
  ``h = V x``, ``w·(x₀ ⊙ (U h + b) + x) = h·(Uᵀ diag(w) x₀) + (w ⊙ b)·x₀ + w·x``.
- The share of the correction, the attention's scale and what else is constant are folded into weights.
- Weights of the evidence are added up by rows of a table of all pairs, where the catalogue is small enough,
  instead of one by one.
- The layers see the candidates of all users as rows of one matrix: so a bias comes with its product, and
  each product is a node of its own, which can be quantised by itself.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from python_backend.item_index import PADDING_SCORE
from tools.training.ranker import Cross, Ranker

PAIRS_UP_TO = 4096
"""Evidence of so many rows or fewer is a table of all pairs, 64 MiB at most; otherwise it is scattered."""


class FoldedCross(nn.Module):
    """A cross layer whose bias is added once: ``x₀ ⊙ (U V x + b) + x``, and without ``+ x`` where x is x₀."""

    def __init__(self, cross: Cross, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.narrow = _linear(cross.narrow.weight)
        # x₀ ⊙ y + x₀ = x₀ ⊙ (y + 1)
        self.widen = _linear(cross.widen.weight, cross.widen.bias + float(first))

    def forward(self, first: Tensor, current: Tensor) -> Tensor:
        crossed: Tensor = first * self.widen(self.narrow(current))
        return crossed if self.first else crossed + current


class FoldedRankGraph(nn.Module):
    """A trained `Ranker` as it is served; its answers are those of `export.RankGraph`."""

    vectors: Tensor
    recency: Tensor
    pairs: Tensor | None

    @torch.no_grad()
    def __init__(self, ranker: Ranker, *, pairs_up_to: int = PAIRS_UP_TO) -> None:
        super().__init__()
        self.register_buffer("vectors", ranker.items().detach().clone())
        self.evidence, self.evidence_weight = ranker.evidence, ranker.evidence_weight
        self.register_buffer("pairs", self.evidence.pairs(pairs_up_to), persistent=False)
        attention = ranker.attention
        self.heads, width = attention.heads, attention.query.weight.shape[0]
        # A row of zeros whose bias is 1 for each head: it meets the history's preference, which is added so.
        split = attention.query.weight.reshape(self.heads, -1, width) / math.sqrt(width // self.heads)
        query = torch.cat([split, torch.zeros(self.heads, 1, width)], dim=1).flatten(0, 1)
        one = torch.cat([torch.zeros(self.heads, width // self.heads), torch.ones(self.heads, 1)], dim=1)
        self.query = _linear(query, one.flatten())
        self.key, self.value = attention.key, attention.value
        self.register_buffer("recency", attention.recency.detach().clone())
        self.recent, self.user_embedding, self.norm = ranker.recent, ranker.user_embedding, ranker.norm
        joint = self.norm.weight.shape[0]
        weight = ranker.shrinkage * ranker.correction.weight[0]
        wide, deep = weight[:joint], weight[joint:]
        crosses = [cast(Cross, cross) for cross in ranker.crosses]
        self.crosses = nn.ModuleList(
            FoldedCross(it, first=not place) for place, it in enumerate(crosses[:-1])
        )
        self.narrow: nn.Linear | None = None
        self.matched: nn.Linear | None = None
        self.of_first: nn.Linear | None = None
        if crosses:
            last = crosses[-1]
            self.narrow = _linear(last.narrow.weight)
            self.matched = _linear((wide[:, None] * last.widen.weight).T)
            self.of_first = _linear((wide * last.widen.bias)[None])
        self.of_last = _linear(wide[None])
        hidden, deeper = cast(nn.Linear, ranker.deep[0]), cast(nn.Linear, ranker.deep[3])
        self.hidden, self.deep = _linear(hidden.weight, hidden.bias), _linear(deeper.weight, deeper.bias)
        self.total = _linear(deep[None], ranker.shrinkage * ranker.correction.bias)
        self.eval()

    def forward(
        self, user_features: Tensor, history: Tensor, candidate: Tensor, retrieval_score: Tensor
    ) -> Tensor:
        """`rank_score` float32 ``[B, K]``."""
        history, rows = history.long(), candidate.long()
        batch, places = candidate.shape
        evidence = self.evidence(history, rows, self.pairs)
        evidence = self.evidence.completed(evidence, rows, retrieval_score)
        past, vectors = self.vectors[history], self.vectors[rows]
        attended = self._attended(vectors, past, history != 0)
        best = retrieval_score - retrieval_score.amax(dim=1, keepdim=True)
        numbers = torch.stack([retrieval_score / 10, best / 10, evidence], dim=-1)
        user = self.user_embedding(user_features.long()).unsqueeze(1).expand(-1, places, -1)
        # Of the whole history: a product of one row is rounded in another way than one of several, and then
        # an answer would depend, by a bit, on how many users were asked about at once.
        last = self.recent(past)[:, -1:]
        joint = [vectors, attended, vectors * attended, vectors * last, user, numbers]
        first = self.norm(torch.cat(joint, dim=-1).flatten(0, 1))
        correction = self._correction(first).reshape(batch, places)
        logits = retrieval_score + self.evidence_weight * evidence + correction
        return torch.where(candidate == 0, PADDING_SCORE, logits)

    def _attended(self, vectors: Tensor, past: Tensor, known: Tensor) -> Tensor:
        """What of the history matters to each candidate, ``[B, K, d]``; see `ranker.TargetAttention`."""
        batch, places, width = vectors.shape
        length = past.shape[1]
        query = self.query(vectors.flatten(0, 1)).reshape(batch, places, self.heads, -1).transpose(1, 2)
        key = self.key(past).reshape(batch, length, self.heads, -1).permute(0, 2, 3, 1)
        value = self.value(past).reshape(batch, length, self.heads, -1).transpose(1, 2)
        preference = self.recency[None, :, -length:].masked_fill(~known[:, None], -1e4)
        attention = (query @ torch.cat([key, preference.unsqueeze(2)], dim=2)).softmax(dim=-1)
        return (attention @ value).transpose(1, 2).reshape(batch, places, width)

    def _correction(self, first: Tensor) -> Tensor:
        """What is added to the retrieval score of each row of `first` ``[n, joint]``, ``[n, 1]``."""
        crossed = first
        for cross in self.crosses:
            crossed = cross(first, crossed)
        deep = functional.gelu(self.deep(functional.gelu(self.hidden(first))))
        correction: Tensor = self.total(deep) + self.of_last(crossed)
        if self.narrow is None or self.matched is None or self.of_first is None:
            return correction
        correction = correction + self.of_first(first)
        return correction + (self.narrow(crossed) * self.matched(first)).sum(dim=-1, keepdim=True)


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A layer with these weights ``[out, in]``."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer
