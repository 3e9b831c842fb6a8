"""How neural channels learn: one loop, and losses over the whole catalogue or over drawn items."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from tools.channels.channel import Material
from tools.channels.history_network import HistoryNetwork
from tools.config.neural_channels import NeuralSection
from tools.data.interactions import Interactions
from tools.training.cold_start import warm_up
from tools.training.optimisation import Optimisation
from tools.training.retriever import Progress
from tools.training.windows import Windows, cut_windows, shuffle_ties

Batch = tuple[Tensor, Tensor, Tensor]
"""User features ``[B, F]``, histories ``[B, L]`` and targets ``[B, L]`` (0: none); all int32."""

Loss = Callable[[HistoryNetwork, Batch, np.random.Generator], Tensor]
"""What training goes down along, a mean over the targets of a batch."""


def train(
    network: HistoryNetwork, loss: Loss, config: NeuralSection, material: Material, progress: Progress
) -> None:
    """Train `network` on every event of `material`, in place, and leave it ready to be asked.

    Each epoch cuts long histories anew and shuffles events of one user and time. Items that nobody has met
    get vectors that suit their features. Raises FloatingPointError where the loss is not finite.
    """
    random = np.random.default_rng(material.seed)
    first = np.random.default_rng(material.seed)
    steps = len(list(_batches(material.interactions, config.batch, material.history, first)))
    optimisation = Optimisation(
        network.parameters(),
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        steps=steps * config.epochs,
    )
    for epoch in range(1, config.epochs + 1):
        network.train()
        losses = []
        shuffled = shuffle_ties(material.interactions, random)
        for windows in _batches(shuffled, config.batch, material.history, random):
            codes = material.features.users[windows.users]
            hidden = random.random((len(codes), 1)) < config.feature_dropout
            arrays = (np.where(hidden, 0, codes), windows.histories, windows.targets)
            users, histories, targets = (torch.from_numpy(array) for array in arrays)
            losses.append(optimisation.step(loss(network, (users, histories, targets), random)))
        progress(epoch, config.epochs, f"loss {np.mean(losses):.4f}" if losses else "nothing to learn from")
    network.eval()
    popularity = material.interactions.popularity()
    encoder, bias = network.encoded
    warm_up(encoder, bias, popularity == 0, popularity)


def _batches(
    interactions: Interactions, size: int, history: int, random: np.random.Generator
) -> Iterator[Windows]:
    """An epoch's windows in batches of like length, each cut to what is not padding in all of its rows."""
    windows = cut_windows(interactions, history, random)
    # What must be kept of a row from the right: its history and the position before its first item.
    lengths = np.minimum((windows.histories != 0).sum(axis=1) + 1, history)
    order = np.argsort(lengths + random.random(len(lengths)) * history * 0.2)
    batches = [order[begin : begin + size] for begin in range(0, len(order), size)]
    for index in random.permutation(len(batches)):
        rows = batches[index]
        kept = slice(-int(lengths[rows].max()), None)
        yield Windows(
            windows.users[rows],
            windows.histories[rows, kept],
            windows.targets[rows, kept],
            windows.stops[rows],
        )


def softmax_loss(interactions: Interactions, config: NeuralSection) -> Loss:
    """The cross-entropy of each next item: against all items of a small catalogue, or against drawn ones."""
    if interactions.n_items <= config.full_softmax_items:
        return full_softmax
    return sampled_softmax(Negatives(interactions.popularity(), config.negatives))


def full_softmax(network: HistoryNetwork, batch: Batch, random: np.random.Generator) -> Tensor:
    """Cross-entropy of each next item against the whole catalogue."""
    users, histories, targets = batch
    vectors = network.items()
    asked = targets > 0
    wanted = targets[asked].long()
    queries = network.queries(users, histories, vectors[histories], asked)
    logits = network.together(queries @ vectors[1:].T) + network.biases()[1:]
    return functional.cross_entropy(logits, wanted - 1)


class Negatives:
    """Draws items that a batch shares: half by `popularity` (int64 ``[I + 1]``), half evenly.

    With replacement. `log_expected` float32 ``[I + 1]`` is the logarithm of how often each item is expected
    in a draw of `count`: what a logit is lowered by (Bengio & Senécal 2008; Yi et al. 2019,
    https://research.google/pubs/pub48840/).
    """

    def __init__(self, popularity: NDArray[np.int64], count: int) -> None:
        self.count = count
        counts = popularity[1:].astype(np.float64)
        share = 0.5 * counts / max(counts.sum(), 1) + 0.5 / len(counts)
        share /= share.sum()
        self._cumulative = np.cumsum(share)
        expected = np.concatenate([[0.0], np.log(share * count)]).astype(np.float32)
        self.log_expected = torch.from_numpy(expected)

    def draw(self, random: np.random.Generator) -> Tensor:
        """Item indices, int64 ``[count]``."""
        drawn = np.searchsorted(self._cumulative, random.random(self.count) * self._cumulative[-1]) + 1
        return torch.from_numpy(np.minimum(drawn, len(self._cumulative)))

    def compared(
        self, network: HistoryNetwork, batch: Batch, random: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Next items int64 ``[n]`` and a draw int64 ``[count]``, and their logits ``[n]``, ``[n, count]``."""
        users, histories, targets = batch
        drawn, asked = self.draw(random), targets > 0
        wanted = targets[asked].long()
        vectors, (history_rows, wanted_rows, drawn_rows) = network.items.table(histories, wanted, drawn)
        queries, bias = network.queries(users, histories, vectors[history_rows], asked), network.biases()
        positive = network.together(queries @ vectors[wanted_rows].unsqueeze(-1)).squeeze(1) + bias[wanted]
        negative = network.together(queries @ vectors[drawn_rows].T) + bias[drawn]
        return wanted, drawn, positive, negative


def sampled_softmax(negatives: Negatives) -> Loss:
    """Cross-entropy of each next item against drawn ones, corrected so that it estimates the full softmax."""

    def loss(network: HistoryNetwork, batch: Batch, random: np.random.Generator) -> Tensor:
        wanted, drawn, positive, negative = negatives.compared(network, batch, random)
        # A negative that is the target itself would be pushed both ways.
        corrected = (negative - negatives.log_expected[drawn]).masked_fill(
            drawn == wanted[:, None], -torch.inf
        )
        logits = torch.cat([positive[:, None], corrected], dim=1)
        return functional.cross_entropy(logits, torch.zeros_like(wanted))

    return loss


def sampled_logistic(negatives: Negatives) -> Loss:
    """Binary cross-entropy of next and drawn items, each logit lowered by how often its item is drawn.

    So a logit becomes the logarithm of the probability that its item is next, whatever the draw favours
    (noise-contrastive estimation, Gutmann & Hyvärinen 2010, https://proceedings.mlr.press/v9/gutmann10a.html).
    """

    def loss(network: HistoryNetwork, batch: Batch, random: np.random.Generator) -> Tensor:
        wanted, drawn, positive, negative = negatives.compared(network, batch, random)
        met = functional.softplus(negatives.log_expected[wanted] - positive)
        not_met = functional.softplus(negative - negatives.log_expected[drawn]).sum(dim=1)
        return (met + not_met).mean()

    return loss
