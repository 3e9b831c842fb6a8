"""Training examples for the ranker: what the retriever returns to users it was not trained on.

A ranker trained on candidates of a retriever that has seen the answers learns to trust it too much. So
the users are split into folds; each fold's candidates come from a retriever trained on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tools.config.training import RankConfig, RetrieveConfig
from tools.data.interactions import Interactions
from tools.training.features import Features
from tools.training.retriever import HeldOut, Progress, Retriever, train_retriever
from tools.training.windows import histories_before

PADDING_SCORE = -1e4
"""The retrieval score of a place without a candidate: finite, so that no NaN arises from it."""


@dataclass(frozen=True)
class RankingExamples:
    """One row for each (user, moment): what was retrieved then, and what came next.

    Attributes:
        users: int64 ``[n]``, user rows.
        histories: int32 ``[n, L]``, right-aligned item indices.
        candidates: int32 ``[n, K]``, best first; 0 where fewer were left.
        scores: float32 ``[n, K]``, their retrieval scores.
        targets: int64 ``[n]``, the place of the next item among the candidates; -1 where it is not there.
    """

    users: NDArray[np.int64]
    histories: NDArray[np.int32]
    candidates: NDArray[np.int32]
    scores: NDArray[np.float32]
    targets: NDArray[np.int64]


def out_of_fold_examples(
    interactions: Interactions,
    features: Features,
    retrieve: RetrieveConfig,
    rank: RankConfig,
    *,
    history: int,
    candidates: int,
    seed: int,
    progress: Progress = lambda done, total, text: None,
) -> tuple[RankingExamples, list[dict[str, float]]]:
    """Candidates for the newest ``rank.examples`` events, and the training curve of the first fold.

    That curve is the honest one: it is measured on the newest events of users that were not trained on.
    """
    fold_of = np.random.default_rng(seed).permutation(interactions.n_users) % rank.folds
    wanted = np.zeros(interactions.n_events, dtype=bool)
    wanted[newest_events(interactions, rank.examples)] = True
    parts, curves = [], []
    for fold in range(rank.folds):
        held_out = fold_of == fold
        model, curve = train_retriever(
            of_users(interactions, ~held_out),
            features,
            retrieve,
            history=history,
            seed=seed + 1 + fold,
            validation=_newest_of(interactions, held_out) if fold == 0 else None,
            progress=lambda done, total, text, fold=fold: progress(  # type: ignore[misc]
                fold * total + done, rank.folds * total, f"fold {fold + 1}/{rank.folds}  {text}"
            ),
        )
        curves.append(curve)
        events = np.flatnonzero(np.repeat(held_out, interactions.lengths) & wanted)
        parts.append(
            retrieved_examples(model, interactions, features, events, history=history, candidates=candidates)
        )
    return concatenate(parts), curves[0]


def of_users(interactions: Interactions, keep: NDArray[np.bool_]) -> Interactions:
    """The same rows, but only the users with `keep` (bool ``[U]``) have events."""
    events = np.repeat(keep, interactions.lengths)
    offsets = np.concatenate([[0], np.cumsum(np.where(keep, interactions.lengths, 0))]).astype(np.int64)
    return replace(
        interactions,
        offsets=offsets,
        items=interactions.items[events],
        timestamps=interactions.timestamps[events],
    )


def _newest_of(interactions: Interactions, users: NDArray[np.bool_]) -> HeldOut:
    """The newest event of each of `users` (bool ``[U]``), with what came before it."""
    return HeldOut(interactions.without_last(1), np.where(users, interactions.last(1), np.int32(0)))


def newest_events(interactions: Interactions, count: int) -> NDArray[np.int64]:
    """The `count` newest events, as positions in `interactions.items`, ascending."""
    if interactions.n_events <= count:
        return np.arange(interactions.n_events)
    newest = np.argpartition(interactions.timestamps, -count)[-count:]
    return np.sort(newest)


@torch.no_grad()
def retrieved_examples(
    model: Retriever,
    interactions: Interactions,
    features: Features,
    events: NDArray[np.int64],
    *,
    history: int,
    candidates: int,
    batch: int = 256,
) -> RankingExamples:
    """What `model` would have returned just before each of `events`, in the form that serving has it."""
    model.eval()
    owners = np.repeat(np.arange(interactions.n_users), interactions.lengths)
    vectors, parts = model.items(), []
    for begin in range(0, len(events), batch):
        chosen = events[begin : begin + batch]
        users = owners[chosen]
        histories = histories_before(interactions, users, chosen, history)
        asked = torch.from_numpy(histories)
        queries = model.tower(torch.from_numpy(features.users[users]), asked, vectors[asked])[:, -1]
        logits = queries @ vectors.T + model.bias
        logits[:, 0] = -torch.inf
        earlier = chosen - interactions.offsets[users]
        rows = np.repeat(np.arange(len(chosen)), earlier)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(earlier) - earlier, earlier)
        seen = interactions.items[np.repeat(interactions.offsets[users], earlier) + within]
        logits[torch.from_numpy(rows), torch.from_numpy(seen).long()] = -torch.inf
        scores, found = logits.log_softmax(dim=-1).topk(candidates)
        found = found.where(scores > -torch.inf, 0)
        hit = found.numpy() == interactions.items[chosen][:, None]
        parts.append(
            RankingExamples(
                users,
                histories,
                found.numpy().astype(np.int32),
                scores.clamp(min=PADDING_SCORE).numpy(),
                np.where(hit.any(axis=1), hit.argmax(axis=1), -1),
            )
        )
    return concatenate(parts)


def concatenate(parts: Sequence[RankingExamples]) -> RankingExamples:
    """All `parts` as one."""
    columns = ("users", "histories", "candidates", "scores", "targets")
    return RankingExamples(*(np.concatenate([getattr(part, column) for part in parts]) for column in columns))
