"""The ranker as it is exported: what `RankGraph` says, to the last digits, in fewer and cheaper operations.

Everything here follows from the trained weights alone, so there is nothing to measure but time:

- The last cross layer is only ever summed up, so it need not be as wide as its input: with
  ``h = V x``, ``w·(x₀ ⊙ (U h + b) + x) = h·(Uᵀ diag(w) x₀) + (w ⊙ b)·x₀ + w·x``.
- The share of the correction, the attention's scale and what else is constant are folded into weights.
- What depends on an item alone, its query, key and value, is looked up, where the catalogue is small enough.
- Weights of the evidence are added up by rows of a table of all pairs, there as well, instead of one by one.
- All layers over the same input are one product.
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
from tools.training.folded_features import FoldedFeatures
from tools.training.ranker import Cross, Ranker

TABLES_UP_TO = 4096
"""Of so many rows or fewer, evidence is a table of all pairs, 64 MiB at most, and so is what is made of each
item; otherwise evidence is scattered, and the rest computed."""


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


class ItemProjection(nn.Module):
    """A layer over item vectors: ``[..., n]`` item indices to ``[..., n, out]``."""

    @torch.no_grad()
    def __init__(self, vectors: Tensor, layer: nn.Linear, *, table: bool) -> None:
        """With `table`, of ``[I + 1, out]``, it is looked up."""
        super().__init__()
        self.layer = None if table else layer
        self.register_buffer("vectors", layer(vectors) if table else vectors)

    def forward(self, items: Tensor) -> Tensor:
        found = functional.embedding(items, cast(Tensor, self.vectors))
        return found if self.layer is None else cast(Tensor, self.layer(found))


class FoldedRankGraph(nn.Module):
    """A trained `Ranker` as it is served; its answers are those of `export.RankGraph`."""

    vectors: Tensor
    recency: Tensor
    pairs: Tensor | None
    scale: Tensor

    @torch.no_grad()
    def __init__(self, ranker: Ranker, *, tables_up_to: int = TABLES_UP_TO) -> None:
        super().__init__()
        vectors = ranker.items().detach().clone()
        self.register_buffer("vectors", vectors)
        self.evidence, self.evidence_weight = ranker.evidence, ranker.evidence_weight
        self.register_buffer("pairs", self.evidence.pairs(tables_up_to), persistent=False)
        attention = ranker.attention
        self.heads, width = attention.heads, attention.query.weight.shape[0]
        # A row of zeros whose bias is 1 for each head: it meets the history's preference, which is added so.
        split = attention.query.weight.reshape(self.heads, -1, width) / math.sqrt(width // self.heads)
        query = torch.cat([split, torch.zeros(self.heads, 1, width)], dim=1).flatten(0, 1)
        one = torch.cat([torch.zeros(self.heads, width // self.heads), torch.ones(self.heads, 1)], dim=1)
        table = len(vectors) <= tables_up_to
        self.query = ItemProjection(vectors, _linear(query, one.flatten()), table=table)
        self.key = ItemProjection(vectors, attention.key, table=table)
        self.value = ItemProjection(vectors, attention.value, table=table)
        self.recent = ItemProjection(vectors, ranker.recent, table=table)
        self.register_buffer("recency", attention.recency.detach().clone())
        self.user, self.norm = FoldedFeatures(ranker.user_embedding), ranker.norm
        # Of the retrieval score, of how far it is below the best, and of the evidence.
        self.register_buffer("scale", torch.tensor([0.1, 0.1, 1.0]))
        self._fold_layers(ranker)
        self.eval()

    def _fold_layers(self, ranker: Ranker) -> None:
        """All over the joint vector: the deep layers, the crosses, and what is made of them."""
        joint = self.norm.weight.shape[0]
        weight = ranker.shrinkage * ranker.correction.weight[0]
        wide, deep = weight[:joint], weight[joint:]
        hidden, deeper = cast(nn.Linear, ranker.deep[0]), cast(nn.Linear, ranker.deep[3])
        crosses = [cast(Cross, cross) for cross in ranker.crosses]
        inner = crosses[:-1]
        self.crosses = nn.ModuleList(FoldedCross(it, first=not place) for place, it in enumerate(inner))
        first, crossed, plain = [hidden.weight], [], torch.zeros(joint)
        if crosses:
            last = crosses[-1]
            first.append((wide[:, None] * last.widen.weight).T)
            crossed.append(last.narrow.weight)
            plain = wide * last.widen.bias
        if inner:
            self.of_crossed: nn.Linear | None = _linear(torch.cat([*crossed, wide[None]]))
            first.append(plain[None])
        else:
            # The last cross layer's input is the joint vector itself.
            self.of_crossed = None
            first += [*crossed, (plain + wide)[None]]
        bias = torch.zeros(sum(len(rows) for rows in first))
        bias[: len(hidden.bias)] = hidden.bias
        self.of_first = _linear(torch.cat(first), bias)
        self.parts = [len(rows) for rows in first]
        self.deep = _linear(deeper.weight, deeper.bias)
        self.total = _linear(deep[None], ranker.shrinkage * ranker.correction.bias)

    def forward(
        self, user_features: Tensor, history: Tensor, candidate: Tensor, retrieval_score: Tensor
    ) -> Tensor:
        """`rank_score` float32 ``[B, K]``."""
        batch, places = candidate.shape
        evidence = self.evidence(history, candidate, self.pairs)
        evidence = self.evidence.completed(evidence, candidate, retrieval_score)
        vectors = functional.embedding(candidate, self.vectors)
        attended = self._attended(candidate, history)
        best = retrieval_score - retrieval_score.amax(dim=1, keepdim=True)
        numbers = torch.stack([retrieval_score, best, evidence], dim=-1) * self.scale
        user = self.user(user_features).unsqueeze(1).expand(-1, places, -1)
        # Of the whole history: a product of one row is rounded in another way than one of several, and then
        # an answer would depend, by a bit, on how many users were asked about at once.
        last = self.recent(history)[:, -1:]
        joint = [vectors, attended, vectors * attended, vectors * last, user, numbers]
        first = self.norm(torch.cat(joint, dim=-1).flatten(0, 1))
        correction = self._correction(first).reshape(batch, places)
        logits = retrieval_score + self.evidence_weight * evidence + correction
        return torch.where(candidate == 0, PADDING_SCORE, logits)

    def _attended(self, candidate: Tensor, history: Tensor) -> Tensor:
        """What of the history matters to each candidate, ``[B, K, d]``; see `ranker.TargetAttention`."""
        (batch, places), length = candidate.shape, history.shape[1]
        query = self.query(candidate).reshape(batch, places, self.heads, -1).transpose(1, 2)
        key = self.key(history).reshape(batch, length, self.heads, -1).permute(0, 2, 3, 1)
        value = self.value(history).reshape(batch, length, self.heads, -1).transpose(1, 2)
        preference = torch.where((history == 0)[:, None], -1e4, self.recency[None, :, -length:])
        attention = (query @ torch.cat([key, preference.unsqueeze(2)], dim=2)).softmax(dim=-1)
        return (attention @ value).transpose(1, 2).reshape(batch, places, -1)

    def _correction(self, first: Tensor) -> Tensor:
        """What is added to the retrieval score of each row of `first` ``[n, joint]``, ``[n, 1]``."""
        crossed = first
        for cross in self.crosses:
            crossed = cross(first, crossed)
        hidden, *of_first = self.of_first(first).split(self.parts, dim=-1)
        correction: Tensor = self.total(functional.gelu(self.deep(functional.gelu(hidden)))) + of_first.pop()
        if self.of_crossed is not None:
            matched = of_first.pop()
            narrow, plain = self.of_crossed(crossed).split([matched.shape[1], 1], dim=-1)
            return correction + plain + (narrow * matched).sum(dim=-1, keepdim=True)
        if of_first:
            matched, narrow = of_first
            correction = correction + (narrow * matched).sum(dim=-1, keepdim=True)
        return correction


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A layer with these weights ``[out, in]``."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer
