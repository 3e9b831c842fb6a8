"""What neural channels have in common: item vectors, and queries that a user's features and history give."""

from __future__ import annotations

import abc
from typing import Protocol

import torch
from torch import Tensor, nn

from tools.training.features import Features
from tools.training.item_encoder import FeatureEmbedding, ItemEncoder


class ItemVectors(Protocol):
    """Gives item vectors; the encoder of ids and features is one."""

    def __call__(self) -> Tensor:
        """Those of the whole catalogue, float ``[I + 1, d]``; row 0 is padding, and zero."""
        ...

    def table(self, *items: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Vectors for a training step over `items`, and each of `items` as rows of them."""
        ...


class HistoryNetwork(nn.Module, abc.ABC):
    """Scores every item for a user: the best of query · item vector over the user's queries, plus a bias.

    Histories are right-aligned: the newest item is last, index 0 pads the front. A position whose item is
    padding knows the user's features alone; that is what an unknown user is served from.

    `items` gives the item vectors, `users` embeds user features, `bias` is added to items' scores.
    """

    items: ItemVectors

    def __init__(self, features: Features, width: int, items: ItemVectors | None = None) -> None:
        """`items` are by default those of an encoder of ids and features."""
        super().__init__()
        self.items = ItemEncoder.of(features, width) if items is None else items
        encoder = features.user_encoder
        self.users = FeatureEmbedding(encoder.fields, features.users.shape[1], encoder.code_count, width)
        self.bias = nn.Parameter(torch.zeros(len(features.items)))

    @property
    def encoded(self) -> tuple[ItemEncoder, Tensor | None]:
        """What makes vectors of ids and features, and each item's bias, float ``[I + 1]``, if they differ."""
        assert isinstance(self.items, ItemEncoder)
        return self.items, self.bias

    def biases(self) -> Tensor:
        """What is added to each item's score, float ``[I + 1]``."""
        return self.bias

    @abc.abstractmethod
    def queries(
        self, user_features: Tensor, history: Tensor, history_vectors: Tensor, asked: Tensor
    ) -> Tensor:
        """In training, the queries of each position in `asked`, bool ``[B, L]``: float ``[n, queries, d]``.

        Position j has seen the items up to and with j. `user_features` int ``[B, F]``, `history` int
        ``[B, L]`` item indices, `history_vectors` float ``[B, L, d]`` their item vectors.
        """

    @abc.abstractmethod
    def newest(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        """The queries at the end of each history, float ``[B, queries, d]``; arguments as above."""

    @abc.abstractmethod
    def together(self, scores: Tensor) -> Tensor:
        """In training, one score of those of several queries: ``[n, queries, items]`` to ``[n, items]``."""


class OneQuery(HistoryNetwork):
    """A network with one query per position."""

    @abc.abstractmethod
    def forward(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        """The query of each position, float ``[B, L, d]``."""

    def queries(
        self, user_features: Tensor, history: Tensor, history_vectors: Tensor, asked: Tensor
    ) -> Tensor:
        every: Tensor = self(user_features, history, history_vectors)
        return every[asked].unsqueeze(1)

    def newest(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        every: Tensor = self(user_features, history, history_vectors)
        return every[:, -1:]

    def together(self, scores: Tensor) -> Tensor:
        return scores.squeeze(1)
