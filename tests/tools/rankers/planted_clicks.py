"""A world whose click probabilities are known: people click what is of the genre that they watch.

Retrieval knows nothing of it: its scores are random.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.special import entr
from tritonrec_client.contract import Sizes

from python_backend.features import FeatureEncoder, FeatureField
from tools.config.rankers import PointwiseRanker, RankerConfig
from tools.training.candidates import PADDING_SCORE, RankingExamples
from tools.training.features import Features

GENRES = ("comedy", "drama", "war")
N_USERS, N_ITEMS, HISTORY, CANDIDATES = 20, 30, 5, 10
SIZES = Sizes(candidates=CANDIDATES, results=3, history=HISTORY, seen=8, session=2, user_features=1)
MATCH, OTHER = 0.11, 0.01
"""The probability of a click on a candidate of the watched genre, and on any other."""
MODELS = ("logistic", "dnn", "dcn_v2", "target_attention", "neumf", "lstm")


def planted_features() -> Features:
    """Users by country; item i is of the genre i mod 3."""
    user_rows = [{"country": "de" if row % 2 else "fr"} for row in range(N_USERS)]
    item_rows = [{"genre": GENRES[item % len(GENRES)]} for item in range(1, N_ITEMS + 1)]
    users = FeatureEncoder.fit([FeatureField("country", "categorical")], user_rows, 1)
    items = FeatureEncoder.fit([FeatureField("genre", "categorical")], item_rows)
    padded = np.zeros((N_ITEMS + 1, 1), np.int32)
    padded[1:] = items.encode(item_rows)
    return Features(users.encode(user_rows), padded, users, items)


def planted_examples(rows: int, seed: int) -> tuple[RankingExamples, NDArray[np.float64]]:
    """Examples, and the probability of a click on each of their candidates, float64 ``[rows, K]``."""
    random = np.random.default_rng(seed)
    genre = random.integers(0, len(GENRES), rows)
    per_genre = N_ITEMS // len(GENRES)
    watched = random.integers(0, per_genre, (rows, HISTORY)) * len(GENRES) + genre[:, None]
    histories = np.where(watched == 0, N_ITEMS, watched).astype(np.int32)
    histories[random.random(rows) < 0.2, :2] = 0  # some histories are short
    candidates = np.stack([random.permutation(N_ITEMS)[:CANDIDATES] + 1 for _ in range(rows)])
    scores = -np.sort(random.exponential(3.0, candidates.shape)).astype(np.float32)
    candidates[::5, -2:], scores[::5, -2:] = 0, PADDING_SCORE
    probability = np.where(candidates % len(GENRES) == genre[:, None], MATCH, OTHER)
    probability[candidates == 0] = 0
    # One candidate at most is clicked: places of a number from 0 to 1 on the probabilities in a row.
    place = (np.cumsum(probability, axis=1) < random.random(rows)[:, None]).sum(axis=1)
    targets = np.where(place < CANDIDATES, place, -1)
    users = random.integers(0, N_USERS, rows)
    return RankingExamples(users, histories, candidates.astype(np.int32), scores, targets), probability


def entropy(probability: NDArray[np.float64], examples: RankingExamples) -> float:
    """The least log-loss of a candidate, in the mean: that of the probabilities themselves."""
    there = examples.candidates != 0
    return float((entr(probability) + entr(1 - probability))[there].mean())


def some(examples: RankingExamples, rows: slice | NDArray[np.bool_]) -> RankingExamples:
    return RankingExamples(*(getattr(examples, field.name)[rows] for field in fields(examples)))


def section(model: str, **changes: object) -> PointwiseRanker:
    """[[rankers]] of a small `model`."""
    small: dict[str, object] = {
        "epochs": 5,
        "batch": 64,
        "learning_rate": 0.02,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "shrinkage": 1.0,
    }
    if model == "logistic":
        small |= {"learning_rate": 0.1}
    else:
        small |= {"width": 8, "hidden": 8}
    if model == "lstm":  # it would learn the users' histories by heart
        small |= {"learning_rate": 0.01, "weight_decay": 0.1}
    read = TypeAdapter(RankerConfig).validate_python({"model": model, **small, **changes})
    assert isinstance(read, PointwiseRanker)
    return read
