"""The retriever: query tower and item vectors, trained to tell the next item from the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from tools.config.training import RetrieveConfig
from tools.data.interactions import Interactions
from tools.training.features import Features
from tools.training.item_encoder import FeatureEmbedding, ItemEncoder
from tools.training.lesson import Lesson
from tools.training.query_tower import QueryTower
from tools.training.robust import AS_USUAL, Robust
from tools.training.windows import last_histories


class Retriever(nn.Module):
    """Scores every item of the catalogue for a user: query vector · item vector + the item's bias."""

    def __init__(self, config: RetrieveConfig, features: Features, history: int) -> None:
        super().__init__()
        self.items = ItemEncoder.of(features, config.width, modality_dropout=config.modality_dropout)
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


class Loss(Protocol):
    """What training goes down along, a mean over targets.

    `users` are feature codes ``[B, F]``, `histories` and `targets` item indices ``[B, L]`` (0: none).
    `robust` says what else than the right answers counts.
    """

    def __call__(
        self,
        model: Retriever,
        users: Tensor,
        histories: Tensor,
        targets: Tensor,
        random: np.random.Generator,
        lesson: Lesson | None = None,
        robust: Robust = AS_USUAL,
    ) -> Tensor: ...


def choose_loss(interactions: Interactions, config: RetrieveConfig) -> Loss:
    """The loss that `config` names; `auto` goes by the size of the catalogue."""
    small = interactions.n_items <= config.full_softmax_items
    if config.loss == "full" or (config.loss == "auto" and small):
        return full_softmax
    return sampled_softmax(interactions.popularity(), config.negatives)


def full_softmax(
    model: Retriever,
    users: Tensor,
    histories: Tensor,
    targets: Tensor,
    random: np.random.Generator,
    lesson: Lesson | None = None,
    robust: Robust = AS_USUAL,
) -> Tensor:
    """Cross-entropy of each next item against the whole catalogue."""
    asked = targets > 0

    def loss(vectors: Tensor) -> Tensor:
        queries = model.tower(users, histories, vectors[histories])[asked]
        logits = queries @ vectors[1:].T + model.bias[1:]
        value = functional.cross_entropy(logits, targets[asked].long() - 1)
        value = robust.smooth(value, logits)
        if lesson is None:
            return value
        taught = lesson.queries[asked] @ lesson.vectors[1:].T + lesson.bias[1:]
        return lesson.mix(value, logits, taught, lesson.unknown[1:])

    return robust.harden(loss, model.items())


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
        model: Retriever,
        users: Tensor,
        histories: Tensor,
        targets: Tensor,
        random: np.random.Generator,
        lesson: Lesson | None = None,
        robust: Robust = AS_USUAL,
    ) -> Tensor:
        drawn = np.searchsorted(cumulative, random.random(negatives) * cumulative[-1]) + 1
        sample = torch.from_numpy(np.minimum(drawn, len(counts)))
        correction = log_expected[sample].to(users.device)
        sample = sample.to(users.device)
        asked = targets > 0
        wanted = targets[asked].long()
        # A negative that is the target itself would be pushed both ways.
        itself = sample == wanted[:, None]
        # The target is there without having been drawn.
        expected = torch.cat([correction.new_zeros(1), correction])
        every, (history_rows, target_rows, sample_rows) = model.items.table(histories, wanted, sample)

        def loss_at(vectors: Tensor) -> Tensor:
            queries = model.tower(users, histories, vectors[history_rows])[asked]
            positive, negative = _compared(
                queries, vectors[target_rows], vectors[sample_rows], model.bias[wanted], model.bias[sample]
            )
            corrected = (negative - correction).masked_fill(itself, -torch.inf)
            value = functional.cross_entropy(
                torch.cat([positive, corrected], dim=1), torch.zeros_like(wanted)
            )
            hidden = functional.pad(itself, (1, 0))
            value = robust.smooth(value, torch.cat([positive, negative], 1), hidden, expected)
            if lesson is None:
                return value
            taught = _compared(
                lesson.queries[asked],
                lesson.vectors[wanted],
                lesson.vectors[sample],
                lesson.bias[wanted],
                lesson.bias[sample],
            )
            unknown = torch.cat([lesson.unknown[wanted][:, None], itself | lesson.unknown[sample]], dim=1)
            return lesson.mix(
                value, torch.cat([positive, negative], 1), torch.cat(taught, 1), unknown, expected
            )

        return robust.harden(loss_at, every)

    return loss


def _compared(
    queries: Tensor, targets: Tensor, sample: Tensor, target_bias: Tensor, sample_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits ``[n, 1]`` of each query's own target, and ``[n, k]`` of a sample that all share."""
    positive = (queries * targets).sum(-1) + target_bias
    return positive[:, None], queries @ sample.T + sample_bias


@torch.no_grad()
def target_ranks(
    model: Retriever,
    held_out: HeldOut,
    features: Features,
    history: int,
    batch: int = 256,
    histories: NDArray[np.int32] | None = None,
) -> NDArray[np.int64]:
    """Where each user's target stands among all unseen items, int64 ``[number of users with a target]``.

    The model sees everybody's last `history` items, or the `histories` int32 ``[U, history]`` instead.
    """
    model.eval()
    vectors, ranks = model.items(), []
    interactions, targets = held_out.histories, held_out.targets
    histories = last_histories(interactions, history) if histories is None else histories
    rows = np.flatnonzero(targets > 0)
    for begin in range(0, len(rows), batch):
        users = rows[begin : begin + batch]
        history_batch = torch.from_numpy(histories[users]).to(vectors.device)
        asked = torch.from_numpy(features.users[users]).to(vectors.device)
        queries = model.tower(asked, history_batch, vectors[history_batch])
        scores = queries[:, -1] @ vectors.T + model.bias
        scores[:, 0] = -torch.inf
        for row, user in enumerate(users):
            scores[row, interactions.user(user).astype(np.int64)] = -torch.inf
        wanted = scores.gather(1, torch.from_numpy(targets[users]).long().to(vectors.device)[:, None])
        ranks.append((scores > wanted).sum(dim=1).cpu().numpy())
    return np.concatenate(ranks) if ranks else np.zeros(0, dtype=np.int64)
