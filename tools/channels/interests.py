"""Several interests of a user, by dynamic routing: MIND (Li et al. 2019, https://arxiv.org/abs/1904.08030).

Three things differ from the paper. Label-aware attention makes the score of every item that a loss compares,
not of the next one alone: otherwise nothing keeps an interest from favouring items that it is not chosen for.
It is a softmax of the scores times a constant, where the paper takes their power. And items count for more or
less by their age, for which each interest has weights of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tools.channels.channel import Material
from tools.channels.history_network import HistoryNetwork
from tools.channels.network_channel import NetworkChannel
from tools.channels.training import softmax_loss, train
from tools.config.neural_channels import InterestsChannel
from tools.training.features import Features
from tools.training.retriever import Progress


def fit(
    config: InterestsChannel, material: Material, progress: Progress = lambda done, total, text: None
) -> NetworkChannel:
    """Train the network on every event of `material`.

    Raises FloatingPointError where the loss is not finite.
    """
    torch.manual_seed(material.seed)
    network = Interests(config, material.features, material.history)
    train(network, softmax_loss(material.interactions, config), config, material, progress)
    return NetworkChannel(network, material.features)


class Interests(HistoryNetwork):
    """Behaviour-to-interest capsules, and queries made of each interest and the user's features.

    A user with n items in the history has ``log2(n)`` interests, at least one and at most `interests`.
    """

    start: Tensor

    def __init__(self, config: InterestsChannel, features: Features, history: int) -> None:
        super().__init__(features, config.width)
        width = config.width
        self.interests, self.iterations = config.interests, config.iterations
        self.sharpness = config.sharpness
        self.norm = nn.LayerNorm(width)
        # The one bilinear map that all pairs of items and interests share.
        self.map = nn.Linear(width, width, bias=False)
        # By interest and age, newest first. Interests that start alike would stay alike: drawn once, kept.
        self.register_buffer("start", torch.randn(config.interests, history))
        # Logarithms of what an item counts for, by interest and age.
        self.recency = nn.Parameter(torch.zeros(config.interests, history))
        self.dropout = nn.Dropout(config.dropout)
        # Capsules are at most 1 long; layers are at their best with values of about 1.
        self.scale = math.sqrt(width)
        # Together a layer over interest and user: the user's part is the same for all interests.
        self.of_interest, self.of_user = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)
        self.query = nn.Sequential(nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(2 * width, width))

    def queries(
        self, user_features: Tensor, history: Tensor, history_vectors: Tensor, asked: Tensor
    ) -> Tensor:
        length = history.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        heard = causal & (history != 0).unsqueeze(1)
        return self._interests(user_features, history_vectors, heard)[asked]

    def newest(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        return self._interests(user_features, history_vectors, (history != 0).unsqueeze(1))[:, 0]

    def together(self, scores: Tensor) -> Tensor:
        """Label-aware attention: the nearer an interest is to an item, the more it counts for its score."""
        return ((scores * self.sharpness).softmax(dim=1) * scores).sum(dim=1)

    def _interests(self, user_features: Tensor, history_vectors: Tensor, heard: Tensor) -> Tensor:
        """Queries float ``[B, P, interests, d]``; an interest that there is not is the first one again.

        `heard` bool ``[B, P, L]``: of which items of the history each position knows.
        """
        length = history_vectors.shape[1]
        behaviours = self.map(self.dropout(self.norm(history_vectors)))
        # Whole numbers are compared: a rounded logarithm is not everywhere the same.
        least = 2 ** torch.arange(1, self.interests + 1)
        active = heard.sum(dim=-1, keepdim=True) >= least.where(least > 2, 0)
        absent = ~active.unsqueeze(-1)
        age = torch.arange(length - heard.shape[1], length)[:, None] - torch.arange(length)
        age = age.clamp(min=0)
        agreement = self.start[:, age].transpose(0, 1).unsqueeze(0)
        known = heard.unsqueeze(2) * self.recency.exp()[:, age].transpose(0, 1)
        # Gradients flow through the last round alone: the ones before only say who belongs to whom.
        seen = behaviours.detach()
        for _ in range(self.iterations - 1):
            capsules = self._capsules(agreement.detach(), absent, known.detach(), seen)
            pull = capsules @ seen.unsqueeze(1).transpose(2, 3)
            agreement = agreement + pull
        capsules = self._capsules(agreement, absent, known, behaviours)
        user = self.of_user(self.users(user_features.long()))[:, None, None]
        queries: Tensor = self.query(self.of_interest(capsules * self.scale) + user)
        return torch.where(active.unsqueeze(-1), queries, queries[:, :, :1])

    @staticmethod
    def _capsules(agreement: Tensor, absent: Tensor, known: Tensor, behaviours: Tensor) -> Tensor:
        """Interests float ``[B, P, interests, d]``: each item shared out among them by `agreement`."""
        share = agreement.masked_fill(absent, -torch.inf).softmax(dim=2) * known
        return squash((share.flatten(1, 2) @ behaviours).reshape(*share.shape[:3], -1))


def squash(vectors: Tensor) -> Tensor:
    """Vectors of the same direction, of lengths between 0 and 1 (Sabour et al. 2017)."""
    square = vectors.square().sum(dim=-1, keepdim=True)
    return vectors * (square / (1 + square)) * (square + 1e-6).rsqrt()
