"""Training examples for the ranker: what a retriever returns that has not seen the answers.

A ranker trained on candidates of a retriever that was trained on the same events learns to trust it too much.
So the events are folded in time: a retriever learns from each user's older events, and its candidates for the
newer ones are what the ranker learns from. That is also what both meet in service: the future.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from tritonrec_client.contract import Sizes

from python_backend.item_index import PADDING_SCORE as PADDING_SCORE  # trainers take it from here
from tools.config.training import RankConfig, RetrieveConfig
from tools.data.interactions import Interactions
from tools.training.features import Features
from tools.training.item_search import INDEX_FROM, search_of
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import HeldOut, Progress, Retriever
from tools.training.windows import histories_before


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


Retrieval = Callable[[Interactions, NDArray[np.int64]], RankingExamples]
"""What finds candidates: asked for those just before each of some events of these interactions."""


def retrieval_by(model: Retriever, features: Features, sizes: Sizes) -> Retrieval:
    """Retrieval by `model` alone."""

    def retrieved(interactions: Interactions, events: NDArray[np.int64]) -> RankingExamples:
        history, candidates = sizes.history, sizes.candidates
        return retrieved_examples(
            model, interactions, features, events, history=history, candidates=candidates
        )

    return retrieved


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
    """Candidates for the newest ``rank.newest`` of each user's events, from a retriever of the older ones.

    Returns also that retriever's training curve, which is measured on the first event of each user that it
    was not trained on.
    """
    newer = newest_counts(interactions, rank)
    older = interactions.without_last(newer)
    first_newer = np.where(newer > 0, interactions.offsets[1:] - newer, 0)
    targets = np.where(newer > 0, interactions.items[first_newer], np.int32(0))
    model, curve = train_retriever(
        older,
        features,
        retrieve,
        history=history,
        seed=seed + 1,
        validation=HeldOut(older, targets),
        progress=progress,
    )
    place = np.arange(interactions.n_events) - np.repeat(interactions.offsets[:-1], interactions.lengths)
    events = np.flatnonzero(place >= np.repeat(interactions.lengths - newer, interactions.lengths))
    examples = retrieved_examples(
        model, interactions, features, events, history=history, candidates=candidates
    )
    return examples, curve


def newest_counts(interactions: Interactions, rank: RankConfig) -> NDArray[np.int64]:
    """How many of each user's newest events the ranker learns from, int64 ``[U]``.

    ``rank.newest`` of them, rounded down, and fewer of everybody's where the sum would exceed
    ``rank.examples``.
    """
    counts = (interactions.lengths * rank.newest).astype(np.int64)
    total = int(counts.sum())
    if total > rank.examples:
        # Sums are rounded, not each user's share: of many users with a share below 1 some keep one event.
        counts = np.diff(np.cumsum(counts) * rank.examples // total, prepend=0)
    return counts


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
    index_from: int = INDEX_FROM,
) -> RankingExamples:
    """What `model` would have returned just before each of `events`, in the form that serving has it.

    Catalogues of `index_from` items or more are searched as they are in service.
    """
    model.eval()
    search = search_of(model, candidates) if len(features.items) > index_from else None
    owners = np.repeat(np.arange(interactions.n_users), interactions.lengths)
    vectors, parts = model.items(), []
    for begin in range(0, max(len(events), 1), batch):
        chosen = events[begin : begin + batch]
        users = owners[chosen]
        histories = histories_before(interactions, users, chosen, history)
        asked = torch.from_numpy(histories)
        queries = model.tower.newest(torch.from_numpy(features.users[users]), asked, vectors[asked])
        seen = seen_before(interactions, users, chosen)
        if search is None:
            found, scores = _best_of_all(queries @ vectors.T + model.bias, seen, candidates)
        else:
            found, scores = search(queries.numpy(), seen)
        hit = found == interactions.items[chosen][:, None]
        parts.append(
            RankingExamples(
                users,
                histories,
                found,
                scores,
                np.where(hit.any(axis=1), hit.argmax(axis=1), -1),
            )
        )
    return concatenate(parts)


def seen_before(
    interactions: Interactions, users: NDArray[np.int64], events: NDArray[np.int64]
) -> NDArray[np.int32]:
    """All that each of `users` (rows, int64 ``[n]``) met before an event, int32 ``[n, the most of them]``.

    `events` are places in ``interactions.items``; 0 pads the end.
    """
    earlier = events - interactions.offsets[users]
    rows = np.repeat(np.arange(len(events)), earlier)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(earlier) - earlier, earlier)
    seen = np.zeros((len(events), max(earlier.max(initial=0), 1)), np.int32)
    seen[rows, place] = interactions.items[np.repeat(interactions.offsets[users], earlier) + place]
    return seen


def _best_of_all(
    logits: torch.Tensor, seen: NDArray[np.int32], candidates: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The best `candidates` of `logits` ``[B, I + 1]`` but `seen` ones, and their log probabilities."""
    logits[:, 0] = -torch.inf
    logits.scatter_(1, torch.from_numpy(seen).long(), -torch.inf)
    scores, found = logits.log_softmax(dim=-1).topk(candidates)
    found = found.where(scores > -torch.inf, 0)
    return found.numpy().astype(np.int32), scores.clamp(min=PADDING_SCORE).numpy()


def concatenate(parts: Sequence[RankingExamples]) -> RankingExamples:
    """All `parts` as one."""
    return RankingExamples(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(RankingExamples))
    )


def rows_of(
    examples: RankingExamples, rows: NDArray[np.int64] | NDArray[np.bool_] | slice
) -> RankingExamples:
    """The `rows` of `examples` alone."""
    return RankingExamples(*(getattr(examples, field.name)[rows] for field in fields(examples)))
