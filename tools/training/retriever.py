"""The retriever: query tower and item vectors, trained to tell the next item from the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from tools.config.training import RetrieveConfig
from tools.data.interactions import Interactions
from tools.evaluation.metrics import ndcg, recall
from tools.training.features import Features
from tools.training.item_encoder import FeatureEmbedding, ItemEncoder
from tools.training.optimisation import Optimisation
from tools.training.query_tower import QueryTower
from tools.training.windows import cut_windows, last_histories, shuffle_ties


class Retriever(nn.Module):
    """Scores every item of the catalogue for a user: query vector · item vector + the item's bias."""

    def __init__(self, config: RetrieveConfig, features: Features, history: int) -> None:
        super().__init__()
        encoder = features.item_encoder
        self.items = ItemEncoder(
            encoder.fields, torch.from_numpy(features.items), encoder.code_count, config.width
        )
        encoder = features.user_encoder
        users = FeatureEmbedding(encoder.fields, features.users.shape[1], encoder.code_count, config.width)
        self.tower = QueryTower(users, history, config.width, config.blocks, config.heads, config.dropout)
        self.bias = nn.Parameter(torch.zeros(features.items.shape[0]))


@dataclass(frozen=True)
class HeldOut:
    """Next items that a model is measured on and not trained on.

    Attributes:
        histories: what each user did before.
        targets: int32 ``[U]``, what came next; 0 where a user is not asked for.
    """

    histories: Interactions
    targets: NDArray[np.int32]


Progress = Callable[[int, int, str], None]
"""Called with (epochs done, epochs in all, what to say)."""


def train_retriever(
    interactions: Interactions,
    features: Features,
    config: RetrieveConfig,
    *,
    history: int,
    seed: int,
    start: Retriever | None = None,
    validation: HeldOut | None = None,
    progress: Progress = lambda done, total, text: None,
) -> tuple[Retriever, list[dict[str, float]]]:
    """Train on every event of `interactions`; return the model and a row per epoch for the curves.

    Training begins with a new model, or goes on with `start`, which is changed. `validation` is only
    measured, every fifth epoch and at the end; without any target it is left out.
    """
    if validation is not None and not validation.targets.any():
        validation = None
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = start or Retriever(config, features, history)
    loss_of = _choose_loss(interactions, config)
    steps = sum(1 for _ in _batches(interactions, config, history, np.random.default_rng(seed)))
    optimisation = Optimisation(
        model.parameters(),
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        steps=steps * config.epochs,
    )
    curve = []
    for epoch in range(1, config.epochs + 1):
        model.train()
        losses = []
        for users, histories, targets in _batches(
            shuffle_ties(interactions, random), config, history, random
        ):
            codes = features.users[users]
            codes = np.where(random.random((len(users), 1)) < config.feature_dropout, 0, codes)
            users_now, history_now, wanted = map(torch.from_numpy, (codes, histories, targets))
            losses.append(optimisation.step(loss_of(model, users_now, history_now, wanted, random)))
        row = {"epoch": float(epoch), "loss": float(np.mean(losses))}
        if validation is not None and (epoch % 5 == 0 or epoch == config.epochs):
            ranks = target_ranks(model, validation, features, history)
            row["validation_ndcg_10"] = float(ndcg(ranks, 10).mean())
            row["validation_recall_500"] = float(recall(ranks, 500).mean())
        curve.append(row)
        progress(
            epoch,
            config.epochs,
            "  ".join(f"{key} {value:.4f}" for key, value in row.items() if key != "epoch"),
        )
    model.eval()
    return model, curve


def _batches(
    interactions: Interactions, config: RetrieveConfig, history: int, random: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]]:
    """Batches of windows (users, histories, targets); rows of like length together, cut to the longest."""
    windows = cut_windows(interactions, history, random)
    # What must be kept of a row from the right: its history and the position before its first item.
    known = (windows.histories != 0).sum(axis=1)
    lengths = np.minimum(known + 1, history)
    order = np.argsort(lengths + random.random(len(lengths)) * history * 0.2)
    batches = [order[begin : begin + config.batch] for begin in range(0, len(order), config.batch)]
    for index in random.permutation(len(batches)):
        rows = batches[index]
        width = int(lengths[rows].max())
        yield windows.users[rows], windows.histories[rows, -width:], windows.targets[rows, -width:]


Loss = Callable[[Retriever, Tensor, Tensor, Tensor, np.random.Generator], Tensor]
"""Of a model, user features [B, F], histories [B, L] and targets [B, L] (0: none)."""


def _choose_loss(interactions: Interactions, config: RetrieveConfig) -> Loss:
    small = interactions.n_items <= config.full_softmax_items
    if config.loss == "full" or (config.loss == "auto" and small):
        return full_softmax
    return sampled_softmax(interactions.popularity(), config.negatives)


def full_softmax(
    model: Retriever, users: Tensor, histories: Tensor, targets: Tensor, random: np.random.Generator
) -> Tensor:
    """Cross-entropy of each next item against the whole catalogue."""
    vectors = model.items()
    asked = targets > 0
    queries = model.tower(users, histories, vectors[histories])[asked]
    return functional.cross_entropy(queries @ vectors[1:].T + model.bias[1:], targets[asked].long() - 1)


def sampled_softmax(popularity: NDArray[np.int64], negatives: int) -> Loss:
    """Cross-entropy of each next item against negatives that the batch shares, logQ corrected.

    Half of the negatives are drawn by `popularity` (int64 ``[I + 1]``), half evenly, with replacement;
    each logit is lowered by the log of how often its item is expected in the draw (Bengio & Senécal 2008;
    Yi et al. 2019, https://research.google/pubs/pub48840/), so that the loss estimates the full softmax.
    """
    counts = popularity[1:].astype(np.float64)
    share = 0.5 * counts / max(counts.sum(), 1) + 0.5 / len(counts)
    share /= share.sum()
    cumulative = np.cumsum(share)
    log_expected = torch.from_numpy(np.concatenate([[0.0], np.log(share * negatives)]).astype(np.float32))

    def loss(
        model: Retriever, users: Tensor, histories: Tensor, targets: Tensor, random: np.random.Generator
    ) -> Tensor:
        drawn = np.searchsorted(cumulative, random.random(negatives) * cumulative[-1]) + 1
        sample = torch.from_numpy(np.minimum(drawn, len(counts)))
        asked = targets > 0
        wanted = targets[asked].long()
        vectors, (history_rows, target_rows, sample_rows) = model.items.table(histories, wanted, sample)
        queries = model.tower(users, histories, vectors[history_rows])[asked]
        positive = (queries * vectors[target_rows]).sum(-1) + model.bias[wanted]
        negative = queries @ vectors[sample_rows].T + model.bias[sample] - log_expected[sample]
        # A negative that is the target itself would be pushed both ways.
        negative = negative.masked_fill(sample == wanted[:, None], -torch.inf)
        return functional.cross_entropy(
            torch.cat([positive[:, None], negative], dim=1), torch.zeros_like(wanted)
        )

    return loss


@torch.no_grad()
def target_ranks(
    model: Retriever, held_out: HeldOut, features: Features, history: int, batch: int = 256
) -> NDArray[np.int64]:
    """Where each user's target stands among all unseen items, int64 ``[number of users with a target]``."""
    model.eval()
    vectors, ranks = model.items(), []
    interactions, targets = held_out.histories, held_out.targets
    histories = last_histories(interactions, history)
    rows = np.flatnonzero(targets > 0)
    for begin in range(0, len(rows), batch):
        users = rows[begin : begin + batch]
        history_batch = torch.from_numpy(histories[users])
        queries = model.tower(torch.from_numpy(features.users[users]), history_batch, vectors[history_batch])
        scores = queries[:, -1] @ vectors.T + model.bias
        scores[:, 0] = -torch.inf
        for row, user in enumerate(users):
            scores[row, interactions.user(user).astype(np.int64)] = -torch.inf
        wanted = scores.gather(1, torch.from_numpy(targets[users]).long()[:, None])
        ranks.append((scores > wanted).sum(dim=1).numpy())
    return np.concatenate(ranks) if ranks else np.zeros(0, dtype=np.int64)
