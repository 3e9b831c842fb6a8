"""Requests of the past, as the ranker would have got them: for scales, and to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.data.interactions import Interactions
from tools.training.candidates import RankingExamples, Retrieval, rows_of
from tools.training.features import Features


def past_requests(retrieval: Retrieval, interactions: Interactions, count: int, seed: int) -> RankingExamples:
    """`count` moments of `interactions`, drawn at random, with what `retrieval` would have returned then.

    All there are where there are fewer. Give only events that training may know.
    """
    random = np.random.default_rng(seed)
    events = np.sort(random.permutation(interactions.n_events)[:count])
    examples = retrieval(interactions, events)
    # In no order, so that any part of them is as good as the whole.
    return rows_of(examples, random.permutation(len(events)))


def first_of(examples: RankingExamples, candidates: int) -> RankingExamples:
    """`examples` with their first `candidates` alone, about as a light ranker would leave them."""
    targets = np.where(examples.targets < candidates, examples.targets, -1)
    return replace(
        examples,
        candidates=examples.candidates[:, :candidates],
        scores=examples.scores[:, :candidates],
        targets=targets,
    )


def inputs_of(
    examples: RankingExamples, features: Features, rows: int, *, most: int | None = None
) -> Iterator[dict[str, NDArray[Any]]]:
    """The first `most` of `examples`, or all, as the inputs of the stage rank, `rows` at a time."""
    for begin in range(0, min(len(examples.users), most or len(examples.users)), rows):
        part = rows_of(examples, slice(begin, begin + rows))
        yield {
            "user_features": features.users[part.users],
            "history": part.histories,
            "candidate": part.candidates,
            "retrieval_score": part.scores,
        }
