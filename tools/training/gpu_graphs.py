"""The trained models as graphs that a GPU likes: what is exported for TensorRT and for PyTorch on CUDA.

They answer like the graphs in `export`, up to the rounding of their precision. What differs:

- The top K is chosen in two levels, exactly: the best K items lie within the K blocks of the greatest maxima.
  TensorRT's TopK takes no more than 3840, and sorting a whole catalogue is slow anywhere.
- Evidence is looked up for each pair of history item and candidate. TensorRT has no scatter that adds.
- Whatever depends on an item alone is computed once and stands in one table.
- Precision is written in the graph, as strongly typed TensorRT networks want it: half precision for what
  costs time, float32 for scores, sums and what they are normalised by.
"""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from tritonrec_client.contract import Sizes

from python_backend.item_index import PADDING_SCORE
from tools.training.evidence import Evidence, Neighbours
from tools.training.query_tower import QueryTower
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

Precision = Literal["fp32", "fp16", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}

MOST_SELECTED = 3840
"""The greatest K of TensorRT's TopK."""

PAIRS_UP_TO = 4096
"""Evidence of so many rows or fewer is a table of all pairs, 64 MiB at most; otherwise it is searched for."""

NO_ITEM = 2**31 - 1
"""Fills up rows of neighbours; after every item in order, and equal to none."""


class GpuQueryGraph(nn.Module):
    """The query tower in `precision`, for an index that knows the item vectors."""

    def __init__(self, retriever: Retriever, precision: Precision = "fp32") -> None:
        super().__init__()
        self.dtype = DTYPES[precision]
        self.tower: QueryTower = copy.deepcopy(retriever.tower).to(self.dtype)

    def forward(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        """`query` float32 ``[B, d]``; `history_vectors` ``[B, L, d]`` are those of `history`."""
        hidden: Tensor = self.tower(user_features, history, history_vectors.to(self.dtype))
        return hidden[:, -1].float()


class GpuSearchGraph(nn.Module):
    """The best K of all items for a query.

    In float32 that is all there is to it. In half precision the scores of a first pass are rounded, so twice
    as many candidates are selected by them as are wanted, where TopK allows it, and scored again in float32:
    the list is that of float32 scores unless more than K others lie within the rounding of the last place.
    """

    scanned: Tensor
    exact: Tensor | None
    bias: Tensor

    def __init__(self, retriever: Retriever, sizes: Sizes, precision: Precision = "fp32") -> None:
        """Raises ValueError for more candidates than TopK takes, or vectors beyond half precision."""
        super().__init__()
        if sizes.candidates > MOST_SELECTED:
            raise ValueError(
                f"candidates is {sizes.candidates}; the TopK of a GPU's graph takes at most {MOST_SELECTED}"
            )
        self.candidates = sizes.candidates
        vectors = retriever.items().detach().float()
        half = precision != "fp32"
        wanted = min(2 * self.candidates, MOST_SELECTED) if half else self.candidates
        self.block = block_size(len(vectors), wanted)
        # Fill up to whole blocks, and to as many items as are selected.
        n = -max(len(vectors), wanted) // self.block * -self.block
        self.selected = wanted
        vectors = functional.pad(vectors, (0, 0, 0, n - len(vectors)))
        bias = torch.full((n,), -torch.inf)
        bias[1 : len(retriever.bias)] = retriever.bias.detach().float()[1:]
        # bfloat16 would round scores eight times as much and is no faster to read.
        scanned = vectors.half() if half else vectors
        if not scanned.isfinite().all():
            raise ValueError("item vectors hold values beyond float16's 65504; use precision fp32")
        self.register_buffer("scanned", scanned)
        self.register_buffer("exact", vectors if half else None)
        self.register_buffer("bias", bias)

    def forward(self, query: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """`candidate` int32 ``[B, K]`` and `retrieval_score` float32 ``[B, K]`` for float32 `query`."""
        logits = (query.to(self.scanned.dtype) @ self.scanned.T).float() + self.bias
        # Unused places of `seen` hold 0, which is masked already.
        logits = logits.scatter(1, seen.long(), -torch.inf)
        logits_of_blocks = logits.reshape(logits.shape[0], -1, self.block)
        maxima = logits_of_blocks.amax(dim=-1)
        # Finite where everything is seen, so that no NaN arises from it.
        greatest = maxima.amax(dim=-1, keepdim=True).clamp(min=-1e30)
        total = (logits - greatest).exp().sum(dim=-1, keepdim=True)
        scores, candidate = top_of_blocks(logits_of_blocks, maxima, self.selected)
        if self.exact is not None:
            rounded = scores
            scores = (self.exact[candidate] * query.unsqueeze(1)).sum(dim=-1) + self.bias[candidate]
            scores = torch.where(rounded > -torch.inf, scores, -torch.inf)
            # What the sum rests on most is corrected. A product with ones, since TensorRT-RTX 1.7 fails on
            # a sum of these scores that is added to another sum.
            change = (scores - greatest).exp() - (rounded - greatest).exp()
            total = total + change @ torch.ones_like(scores[:1]).T
            scores, place = scores.topk(self.candidates, dim=-1)
            candidate = candidate.gather(1, place)
        normaliser = greatest + total.clamp(min=1e-30).log()
        left = scores > -torch.inf
        return (
            torch.where(left, candidate, 0).int(),
            torch.where(left, scores - normaliser, PADDING_SCORE),
        )


class GpuRetrieveGraph(nn.Module):
    """The retriever as one graph: query tower, scores of all items, seen items masked, top K.

    The item vectors are constants: for catalogues whose scores ``[B, items]`` fit into memory.
    """

    def __init__(self, retriever: Retriever, sizes: Sizes, precision: Precision = "fp32") -> None:
        """Raises ValueError as `GpuSearchGraph` does."""
        super().__init__()
        self.query = GpuQueryGraph(retriever, precision)
        self.search = GpuSearchGraph(retriever, sizes, precision)

    def forward(self, user_features: Tensor, history: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """`candidate` int32 ``[B, K]`` and `retrieval_score` float32 ``[B, K]``, see the contract."""
        query = self.query(user_features, history, self.search.scanned[history.long()])
        answer: tuple[Tensor, Tensor] = self.search(query, seen)
        return answer


def block_size(n: int, count: int) -> int:
    """How many of `n` items to a block, for selecting `count`: as many maxima as items of chosen blocks."""
    if n <= 4 * count:
        return 1
    return 2 ** round(math.log2(math.sqrt(n / count)))


def top_of_blocks(blocks: Tensor, maxima: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` greatest of `blocks` ``[B, number, size]``, best first, and their places among all.

    `maxima` ``[B, number]`` are each block's greatest. Exact: were one of the `count` greatest in a block
    that is not among the `count` best by maximum, each of those blocks would hold a greater one.
    """
    size = blocks.shape[-1]
    if size == 1:
        return maxima.topk(count, dim=-1)
    chosen = maxima.topk(min(count, maxima.shape[1]), dim=-1).indices
    values = blocks.gather(1, chosen.unsqueeze(-1).expand(-1, -1, size)).flatten(1)
    best, place = values.topk(count, dim=-1)
    return best, chosen.gather(1, place // size) * size + place % size


class GpuEvidence(nn.Module):
    """`Evidence` without scattering: each pair's weight is looked up, then summed over the history.

    Up to `pairs_up_to` rows the weights of all pairs are one table. Otherwise the neighbours of each item are
    sorted, and a binary search without branches finds the candidate among them, one gather per halving.
    """

    pairs: Tensor | None
    items: Tensor
    weights: Tensor

    def __init__(self, evidence: Evidence, pairs_up_to: int = PAIRS_UP_TO) -> None:
        """Raises ValueError where a row of neighbours names an item twice."""
        super().__init__()
        items, weights = evidence.items, evidence.weights
        # For what it does once evidence is there, which needs no neighbours.
        self.evidence = Evidence(Neighbours.none(len(items) - 1))
        self.evidence.unmet = evidence.unmet
        self.rows = len(items)
        self.speaks = bool(weights.any())
        if not self.speaks:
            return
        items = torch.where(weights != 0, items, NO_ITEM)
        items, order = items.sort(dim=1)
        weights = weights.gather(1, order)
        if ((items[:, 1:] == items[:, :-1]) & (items[:, 1:] != NO_ITEM)).any():
            raise ValueError("a row of neighbours names an item twice; sum its weights first")
        pairs = None
        if self.rows <= pairs_up_to:
            pairs = torch.zeros(self.rows, self.rows)
            pairs.scatter_add_(1, torch.where(weights != 0, items, 0), weights)
            pairs = pairs.flatten()
        self.width = 2 ** math.ceil(math.log2(max(items.shape[1], 2)))
        missing = self.width - items.shape[1]
        self.register_buffer("pairs", pairs)
        if pairs is None:
            # 32 bits are enough for the products below: more than 8 million items never have evidence.
            self.register_buffer("items", functional.pad(items, (0, missing), value=NO_ITEM).int().flatten())
            self.register_buffer("weights", functional.pad(weights, (0, missing)).flatten())

    def forward(self, history: Tensor, candidates: Tensor, scores: Tensor) -> Tensor:
        """Float32 ``[B, K]``, as `Evidence` gives and completes it for `scores` ``[B, K]``."""
        if not self.speaks:
            evidence = torch.zeros_like(scores)
        else:
            total = self._weights(history.int().unsqueeze(2), candidates.int().unsqueeze(1)).sum(dim=1)
            centred = total - total.mean(dim=1, keepdim=True)
            deviation = (centred * centred).mean(dim=1, keepdim=True).sqrt()
            evidence = centred / (deviation + 1e-6)
        return self.evidence.completed(evidence, candidates, scores)

    def _weights(self, history: Tensor, candidates: Tensor) -> Tensor:
        """Each pair's weight ``[B, L, K]`` of `history` ``[B, L, 1]`` and `candidates` ``[B, 1, K]``."""
        if self.pairs is not None:
            return _looked_up(self.pairs, history * self.rows + candidates)
        place = (history * self.width).expand(-1, -1, candidates.shape[2])
        step = self.width // 2
        while step:
            # Past `step` more neighbours, if the last of them is still before the candidate.
            before = _looked_up(self.items, place + (step - 1)) < candidates
            place = place + before.int() * step
            step //= 2
        found = _looked_up(self.items, place) == candidates
        return torch.where(found, _looked_up(self.weights, place), 0.0)


def _looked_up(values: Tensor, places: Tensor) -> Tensor:
    return values.index_select(0, places.flatten()).reshape(places.shape)


class GpuRankGraph(nn.Module):
    """The ranker: one gather for the candidates, one for the history, the rest in `precision`.

    The table holds for each item what attention and crosses make of its vector alone: the vector, its query,
    key and value, and what it is as the newest of a history.
    """

    table: Tensor
    recency: Tensor

    def __init__(
        self, ranker: Ranker, precision: Precision = "fp32", *, pairs_up_to: int = PAIRS_UP_TO
    ) -> None:
        super().__init__()
        self.dtype = dtype = DTYPES[precision]
        self.evidence = GpuEvidence(ranker.evidence, pairs_up_to)
        self.evidence_weight, self.shrinkage = ranker.evidence_weight, ranker.shrinkage
        attention = ranker.attention
        self.heads = attention.heads
        with torch.no_grad():
            vectors = ranker.items().float()
            self.width = width = vectors.shape[1]
            query = attention.query(vectors) / math.sqrt(width // self.heads)
            parts = [vectors, query, attention.key(vectors), attention.value(vectors), ranker.recent(vectors)]
            self.register_buffer("table", torch.cat(parts, dim=1).to(dtype))
            self.register_buffer("recency", attention.recency.detach().clone().to(dtype))
        self.user_embedding = copy.deepcopy(ranker.user_embedding).to(dtype)
        self.norm = copy.deepcopy(ranker.norm).to(dtype)
        self.crosses = copy.deepcopy(ranker.crosses).to(dtype)
        self.deep = copy.deepcopy(ranker.deep).to(dtype)
        self.correction = copy.deepcopy(ranker.correction).to(dtype)

    def forward(
        self, user_features: Tensor, history: Tensor, candidate: Tensor, retrieval_score: Tensor
    ) -> Tensor:
        """`rank_score` float32 ``[B, K]``."""
        places, width = candidate.shape[1], self.width
        evidence = self.evidence(history, candidate, retrieval_score)
        past = self.table[history.long()]
        chosen = self.table[:, : 2 * width][candidate.long()]
        vectors, query = chosen[..., :width], chosen[..., width:]
        key, value = past[..., 2 * width : 3 * width], past[..., 3 * width : 4 * width]
        attended = self._attended(query, key, value, history != 0)
        last = past[:, -1:, 4 * width :]
        best = retrieval_score - retrieval_score.amax(dim=1, keepdim=True)
        numbers = torch.stack([retrieval_score / 10, best / 10, evidence], dim=-1).to(self.dtype)
        user = self.user_embedding(user_features.long()).unsqueeze(1).expand(-1, places, -1)
        joint = torch.cat([vectors, attended, vectors * attended, vectors * last, user, numbers], dim=-1)
        joint = self.norm(joint)
        crossed = joint
        for cross in self.crosses:
            crossed = cross(joint, crossed)
        correction = self.correction(torch.cat([crossed, self.deep(joint)], dim=-1)).squeeze(-1).float()
        logits = retrieval_score + self.evidence_weight * evidence + self.shrinkage * correction
        return torch.where(candidate == 0, PADDING_SCORE, logits)

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, known: Tensor) -> Tensor:
        """Attention ``[B, K, d]`` of `query` ``[B, K, d]`` over `key` and `value` ``[B, L, d]``."""
        (batch, length), places = known.shape, query.shape[1]
        preference = torch.where(known[:, None, None], self.recency[None, :, None, -length:], -1e4)
        attended = functional.scaled_dot_product_attention(
            query.reshape(batch, places, self.heads, self.width // self.heads).transpose(1, 2),
            key.reshape(batch, length, self.heads, -1).transpose(1, 2),
            value.reshape(batch, length, self.heads, -1).transpose(1, 2),
            attn_mask=preference.to(query.dtype).expand(-1, -1, places, -1),
            scale=1.0,
        )
        # No size is left to be inferred: torch.export would guard it, and refuse a batch of one.
        return attended.transpose(1, 2).reshape(batch, places, self.width)
