"""Two towers with a logistic head: the probability of (user, item) is σ(Wᵀ(f(u) ⊙ g(i)) + b).

f is a network of the user's features and averages of the history, g one of the item's id and features. W goes
into the item's vector, so that serving is one dot product (Covington et al. 2016, Yi et al. 2019).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tools.channels.channel import Material
from tools.channels.history_network import OneQuery
from tools.channels.network_channel import NetworkChannel
from tools.channels.training import Negatives, sampled_logistic, train
from tools.config.neural_channels import TwoTowersChannel
from tools.training.features import Features
from tools.training.item_encoder import ItemEncoder
from tools.training.retriever import Progress


def fit(
    config: TwoTowersChannel, material: Material, progress: Progress = lambda done, total, text: None
) -> NetworkChannel:
    """Train the towers on every event of `material`, and on as many drawn ones.

    Raises FloatingPointError where the loss is not finite.
    """
    torch.manual_seed(material.seed)
    network = TwoTowers(config, material.features, material.history)
    negatives = Negatives(material.interactions.popularity(), config.negatives)
    train(network, sampled_logistic(negatives), config, material, progress)
    return NetworkChannel(network, material.features)


class ItemTower(nn.Module):
    """g(i) ⊙ W of the head: two layers over the item's vector of id and features. Row 0 is padding."""

    def __init__(self, features: Features, width: int, hidden: int) -> None:
        super().__init__()
        self.encoder = ItemEncoder.of(features, width)
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.head = nn.Parameter(torch.ones(width))

    def forward(self) -> Tensor:
        return self._tower(self.encoder())

    def table(self, *items: Tensor) -> tuple[Tensor, list[Tensor]]:
        vectors, rows = self.encoder.table(*items)
        return self._tower(vectors), rows

    def _tower(self, vectors: Tensor) -> Tensor:
        real = torch.arange(len(vectors)) > 0
        return (vectors + self.layers(vectors)) * self.head * real.unsqueeze(-1)


class TwoTowers(OneQuery):
    """f over the user's features and averages of the history, each with weights of its own by recency."""

    def __init__(self, config: TwoTowersChannel, features: Features, history: int) -> None:
        super().__init__(features, config.width, ItemTower(features, config.width, config.hidden))
        self.n_items = len(features.items) - 1
        # At the start every item is as likely as any other.
        self.bias = nn.Parameter(torch.tensor(-math.log(self.n_items)))
        # Logarithms of weights, newest first: at the start from an even average to the newest alone.
        fading = torch.linspace(0, 1, config.summaries).square() * 3
        self.recency = nn.Parameter(-fading[:, None] * torch.arange(history))
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.Sequential(
            nn.Linear((config.summaries + 1) * config.width, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.width),
        )

    @property
    def encoded(self) -> tuple[ItemEncoder, Tensor | None]:
        assert isinstance(self.items, ItemTower)
        return self.items.encoder, None

    def biases(self) -> Tensor:
        return self.bias.expand(self.n_items + 1)

    def forward(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        return self._tower(user_features, history, history_vectors, history.shape[1])

    def newest(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        return self._tower(user_features, history, history_vectors, 1)

    def _tower(self, user_features: Tensor, history: Tensor, history_vectors: Tensor, last: int) -> Tensor:
        """f at the `last` positions, float ``[B, last, d]``."""
        length = history.shape[1]
        age = torch.arange(length - last, length)[:, None] - torch.arange(length)
        weights = self.recency.exp()[:, age.clamp(min=0)] * (age >= 0)
        known = (history != 0).to(weights.dtype)[:, None, None]
        weights = weights * known
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-9)
        averages = weights @ history_vectors.unsqueeze(1)
        user = self.users(user_features.long())[:, None].expand(-1, last, -1)
        known_of_user = torch.cat([averages.transpose(1, 2).flatten(2), user], dim=-1)
        tower: Tensor = self.layers(self.dropout(known_of_user))
        return tower
