"""Training the ranker: a softmax over candidates, the next item against what else was retrieved."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from tools.config.training import RankConfig
from tools.evaluation.metrics import ABSENT, ndcg
from tools.training.candidates import RankingExamples
from tools.training.evidence import Neighbours
from tools.training.features import Features
from tools.training.optimisation import Optimisation
from tools.training.ranker import Ranker
from tools.training.retriever import Progress


def train_ranker(
    examples: RankingExamples,
    features: Features,
    config: RankConfig,
    *,
    history: int,
    seed: int,
    neighbours: Neighbours | None = None,
    start: Ranker | None = None,
    validation: RankingExamples | None = None,
    progress: Progress = lambda done, total, text: None,
) -> tuple[Ranker, list[dict[str, float]]]:
    """Train on the `examples` whose next item was retrieved; return the model and a row per epoch.

    Of an example's candidates the best third of `config.negatives` are always compared, the rest is drawn
    from the others; their logits are raised by the log of how many each stands for, so that the loss
    estimates the softmax over all candidates. Training begins with a new model that rests on `neighbours`, or
    goes on with `start`, which is changed. `validation` is only measured. Where no next item was
    retrieved there is nothing to learn, and the ranker keeps the retrieval order.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = start or Ranker(config, features, history, neighbours)
    rows = np.flatnonzero(examples.targets >= 0)
    if not len(rows):
        return model.eval(), []
    batches = math.ceil(len(rows) / config.batch)
    optimisation = Optimisation(
        model.parameters(),
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        steps=batches * config.epochs,
    )
    curve = []
    for epoch in range(1, config.epochs + 1):
        model.train()
        losses = []
        order = random.permutation(rows)
        for begin in range(0, len(order), config.batch):
            chosen = order[begin : begin + config.batch]
            losses.append(
                optimisation.step(_loss(model, examples, features, chosen, config.negatives, random))
            )
        row = {"epoch": float(epoch), "loss": float(np.mean(losses))}
        if validation is not None:
            places = target_places(rank_logits(model, validation, features), validation)
            row["validation_ndcg_10"] = float(ndcg(places, 10).mean())
        curve.append(row)
        text = "  ".join(f"{key} {value:.4f}" for key, value in row.items() if key != "epoch")
        progress(epoch, config.epochs, text)
    model.eval()
    return model, curve


def _loss(
    model: Ranker,
    examples: RankingExamples,
    features: Features,
    rows: NDArray[np.int64],
    negatives: int,
    random: np.random.Generator,
) -> Tensor:
    places, weight = _draw_places(examples.candidates[rows], examples.targets[rows], negatives, random)
    candidates = np.take_along_axis(examples.candidates[rows], places, axis=1)
    scores = np.take_along_axis(examples.scores[rows], places, axis=1)
    users = torch.from_numpy(features.users[examples.users[rows]])
    histories = torch.from_numpy(examples.histories[rows])
    # Standardised over all candidates, as in service, not over the drawn ones.
    evidence = model.evidence(histories, torch.from_numpy(examples.candidates[rows]))
    evidence = evidence.gather(1, torch.from_numpy(places))
    vectors, (history_rows, candidate_rows) = model.items.table(histories, torch.from_numpy(candidates))
    logits = model(users, history_rows, candidate_rows, torch.from_numpy(scores), evidence, vectors)
    logits = (logits + torch.from_numpy(weight)).masked_fill(torch.from_numpy(candidates == 0), -torch.inf)
    return functional.cross_entropy(logits, torch.zeros(len(rows), dtype=torch.long))


def _draw_places(
    candidates: NDArray[np.int32], targets: NDArray[np.int64], negatives: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The places to compare, int64 ``[n, 1 + negatives]`` with the target first, and their log weights."""
    total = candidates.shape[1]
    count = min(negatives, total - 1)
    head = count // 3
    drawn = count - head
    # Random keys order the tail; the head sorts before it, the target is taken out of both.
    keys = random.random(candidates.shape, dtype=np.float32)
    keys[:, :head] -= 1
    np.put_along_axis(keys, targets[:, None], 2, axis=1)
    places = np.argpartition(keys, count - 1, axis=1)[:, :count]
    # A target in the head leaves one candidate more to draw from, and one more draw.
    more = (targets < head)[:, None]
    stands_for = (total - 1 - head + more) / np.maximum(drawn + more, 1)
    weight = np.where(places < head, 0.0, np.log(np.maximum(stands_for, 1)))
    target_weight = np.zeros((len(targets), 1))
    return (
        np.concatenate([targets[:, None], places], axis=1),
        np.concatenate([target_weight, weight], axis=1).astype(np.float32),
    )


@torch.no_grad()
def rank_logits(
    model: Ranker, examples: RankingExamples, features: Features, batch: int = 128
) -> NDArray[np.float32]:
    """The model's logits for all `examples`, float32 ``[n, K]``."""
    model.eval()
    vectors, parts = model.items(), []
    for begin in range(0, len(examples.users), batch):
        rows = slice(begin, begin + batch)
        users = torch.from_numpy(features.users[examples.users[rows]])
        histories = torch.from_numpy(examples.histories[rows])
        candidates = torch.from_numpy(examples.candidates[rows])
        scores = torch.from_numpy(examples.scores[rows])
        evidence = model.evidence(histories, candidates)
        parts.append(model(users, histories, candidates, scores, evidence, vectors).numpy())
    return np.concatenate(parts)


def target_places(scores: NDArray[np.float32], examples: RankingExamples) -> NDArray[np.int64]:
    """The rank of each example's next item when candidates are ordered by `scores` [n, K].

    0 is the first place; `metrics.ABSENT` where the item was not retrieved.
    """
    scores = np.where(examples.candidates == 0, -np.inf, scores)
    target = np.take_along_axis(scores, np.maximum(examples.targets, 0)[:, None], axis=1)
    return np.where(examples.targets >= 0, (scores > target).sum(axis=1), ABSENT)
