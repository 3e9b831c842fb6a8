"""A recurrent network over the history: GRU4Rec, and the same with an LSTM.

Hidasi et al. 2016 (https://arxiv.org/abs/1511.06939), with what Hidasi & Karatzoglou 2018
(https://arxiv.org/abs/1706.03847) found better: the cross-entropy over many items, and the same item vectors
for what goes in and for what comes out. The first step of each history is the user's features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tools.channels.channel import Material
from tools.channels.history_network import OneQuery
from tools.channels.network_channel import NetworkChannel
from tools.channels.training import softmax_loss, train
from tools.config.neural_channels import RecurrentChannel
from tools.training.features import Features
from tools.training.retriever import Progress

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


def fit(
    config: RecurrentChannel, material: Material, progress: Progress = lambda done, total, text: None
) -> NetworkChannel:
    """Train the network on every event of `material`.

    Raises FloatingPointError where the loss is not finite.
    """
    torch.manual_seed(material.seed)
    network = Recurrent(config, material.features)
    train(network, softmax_loss(material.interactions, config), config, material, progress)
    return NetworkChannel(network, material.features)


class Recurrent(OneQuery):
    """GRU or LSTM; each position's query is a linear map of the state there."""

    def __init__(self, config: RecurrentChannel, features: Features) -> None:
        super().__init__(features, config.width)
        self.first_token = nn.Parameter(torch.randn(config.width) * 0.02)
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.cell = CELLS[config.model](config.width, config.hidden, batch_first=True)
        self.query = nn.Linear(config.hidden, config.width)

    def forward(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        length = history.shape[1]
        padding = (history == 0).sum(dim=1, keepdim=True)
        place = torch.arange(length)[None]
        # The padding goes behind the items, where no state of theirs can feel it …
        rotated = torch.where(place + padding < length, place + padding, place + padding - length)
        items = _rows(history_vectors, rotated)
        user = self.first_token + self.users(user_features.long())
        steps = self.dropout(self.norm(torch.cat([user.unsqueeze(1), items], dim=1)))
        states, _ = self.cell(steps)
        # … and comes back in front, with the state after the user's features.
        queries: Tensor = self.query(self.dropout(_rows(states, (place + 1 - padding).clamp(min=0))))
        return queries


def _rows(values: Tensor, places: Tensor) -> Tensor:
    """``values[b, places[b, l]]``: of ``[B, n, d]`` and ``[B, L]`` the ``[B, L, d]``."""
    return values.gather(1, places.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
