"""What all pointwise rankers share: what they see of a request, and where they start.

Each says for every candidate by itself how likely it is that the user turns to it next: its answer is a
logit, whose sigmoid is a probability. All begin with the retrieval score, calibrated, and learn what to add
to it.

No ranker knows users by id. Whoever asks is described by feature codes and by the items of the history, so
that users whom training never met are served like all others.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from python_backend.item_index import PADDING_SCORE
from tools.config.rankers import PointwiseRanker
from tools.training.features import Features
from tools.training.item_encoder import FeatureEmbedding, ItemEncoder

NUMBERS = 2
"""How many numbers tell what retrieval thinks of a candidate; see `score_numbers`."""


@dataclass(frozen=True)
class View:
    """What a ranker sees of B users with L places of history and K candidates each.

    Attributes:
        user: float ``[B, d]``, the user's features.
        past: float ``[B, L, d]``, item vectors of the history, newest last; zeros are padding.
        known: bool ``[B, L]``, which places of the history are items.
        mean: float ``[B, d]``, the mean of those.
        candidate: float ``[B, K, d]``, item vectors.
        numbers: float ``[B, K, 2]``, what retrieval thinks of the candidates.
        history_items: int ``[B, L]`` and candidate_items: int ``[B, K]``, item indices.
    """

    user: Tensor
    past: Tensor
    known: Tensor
    mean: Tensor
    candidate: Tensor
    numbers: Tensor
    history_items: Tensor
    candidate_items: Tensor


class PointwiseModel(nn.Module, abc.ABC):
    """Logits of candidates: the calibrated retrieval score, plus a correction that begins at 0."""

    centre: Tensor
    spread: Tensor

    def __init__(self, config: PointwiseRanker, features: Features, *, item_width: int | None = None) -> None:
        """`item_width` is that of item vectors, by default ``config.width``."""
        super().__init__()
        users = features.user_encoder
        self.items = ItemEncoder.of(features, item_width or config.width, std=0.05)
        self.users = FeatureEmbedding(users.fields, features.users.shape[1], users.code_count, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.shrinkage = config.shrinkage
        self.score = nn.Linear(NUMBERS, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    @abc.abstractmethod
    def correction(self, view: View) -> Tensor:
        """What is added to the calibrated retrieval scores, float ``[B, K]``; 0 before training."""

    def score_numbers(self, candidate: Tensor, retrieval_score: Tensor) -> Tensor:
        """What retrieval thinks of each candidate, float ``[B, K, 2]``.

        The score in standard deviations, and by how many it is below the best one of the list, for all
        `candidate` int ``[B, K]`` and `retrieval_score` float ``[B, K]`` of a list. 0 for padding.
        """
        there = candidate != 0
        best = torch.where(there, retrieval_score, PADDING_SCORE).amax(dim=1, keepdim=True)
        numbers = torch.stack([retrieval_score - self.centre, retrieval_score - best], dim=-1) / self.spread
        return torch.where(there.unsqueeze(-1), numbers, 0.0)

    def forward(
        self,
        user_features: Tensor,
        history: Tensor,
        candidate: Tensor,
        numbers: Tensor,
        vectors: Tensor,
        rows: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Logits, float ``[B, K]``; those of padding mean nothing.

        `user_features` int ``[B, F]``; `history` int ``[B, L]`` and `candidate` int ``[B, K]`` item indices;
        `numbers` float ``[B, K, 2]`` as `score_numbers` gives them for the whole list; `vectors` float
        ``[n, d]``, row 0 padding: those of the whole catalogue, unless `rows` says which row of it belongs to
        each place of the history and of the candidates.
        """
        history_rows, candidate_rows = rows or (history, candidate)
        vectors = self.dropout(vectors)
        past = functional.embedding(history_rows, vectors)
        known = history != 0
        # Padding is a row of zeros, so the sum is that of the known places.
        mean = past.sum(dim=1) / known.sum(dim=1, keepdim=True).clamp(min=1)
        view = View(
            user=self.users(user_features.long()),
            past=past,
            known=known,
            mean=mean,
            candidate=functional.embedding(candidate_rows, vectors),
            numbers=numbers,
            history_items=history,
            candidate_items=candidate,
        )
        correction = self.correction(view)
        # Learned beside a weaker retriever, and from few events: the whole correction would go too far.
        correction = correction if self.training else self.shrinkage * correction
        return self.score(numbers).squeeze(-1) + correction


class PointwiseGraph(nn.Module):
    """A ranker as it is served: item vectors are constants, padding is never chosen."""

    vectors: Tensor

    def __init__(self, model: PointwiseModel) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("vectors", model.items().detach().clone())

    def forward(
        self, user_features: Tensor, history: Tensor, candidate: Tensor, retrieval_score: Tensor
    ) -> Tensor:
        """`rank_score` float32 ``[B, K]``, see the contract."""
        history, items = history.long(), candidate.long()
        numbers = self.model.score_numbers(items, retrieval_score)
        logits = self.model(user_features, history, items, numbers, self.vectors)
        return torch.where(candidate == 0, PADDING_SCORE, logits)


class Tower(nn.Module):
    """A network of two layers over what is known of the user and of each candidate, side by side.

    The first layer is one matrix over both; the user's part of the product is made once for all candidates.
    """

    def __init__(self, user: int, candidate: int, hidden: int, dropout: float) -> None:
        """`user` and `candidate` are the widths of what is known of either."""
        super().__init__()
        self.of_user = nn.Linear(user, hidden)
        self.of_candidate = nn.Linear(candidate, hidden, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(hidden, hidden)

    def forward(self, user: Tensor, candidate: Tensor) -> Tensor:
        """`user` float ``[B, u]`` and `candidate` float ``[B, K, c]`` → ``[B, K, hidden]``."""
        first = functional.gelu(self.of_user(user).unsqueeze(1) + self.of_candidate(candidate))
        return functional.gelu(self.second(self.dropout(first)))


def silent(inputs: int) -> nn.Linear:
    """A last layer that says 0 until it has learned something."""
    layer = nn.Linear(inputs, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
