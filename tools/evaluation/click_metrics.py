"""Figures of merit for stated probabilities of a click, and for predicted ratings.

Probabilities are ``probability [n]`` within 0 … 1 and what happened ``clicked [n]``, 0 or 1, one pair of user
and item each. Whether the probabilities are honest is told by `calibration.calibration`, whose `error` is the
expected calibration error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from tools.evaluation.metrics import Floats

_LEAST = np.finfo(np.float64).eps


def auc(score: npt.NDArray[Any], clicked: npt.NDArray[Any]) -> float:
    """How often a clicked item has a higher score than another, ties counting half (Hanley & McNeil 1982).

    `score` may be anything that rises with the probability. NaN where all or none was clicked.
    """
    score, clicked = _checked(score, clicked)
    positives = float(clicked.sum())
    negatives = len(clicked) - positives
    if not positives or not negatives:
        return float("nan")
    above = rankdata(score)[clicked == 1].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def auc_per_user(scores: npt.NDArray[Any], clicked: npt.NDArray[Any], shown: npt.NDArray[np.bool_]) -> Floats:
    """`auc` among each user's own items, float64 ``[U]``; NaN for a user of whom it does not exist.

    All three are ``[U, K]``; `shown` says which places hold an item.
    """
    return np.array([auc(s[at], c[at]) for s, c, at in zip(scores, clicked, shown, strict=True)])


def accuracy(probability: npt.NDArray[Any], clicked: npt.NDArray[Any], threshold: float = 0.5) -> float:
    """The share of pairs for which "the probability is above `threshold`" is what happened; NaN for none."""
    probability, clicked = _probabilities(probability, clicked)
    if not len(clicked):
        return float("nan")
    return float(((probability > threshold) == (clicked == 1)).mean())


def log_loss(probability: npt.NDArray[Any], clicked: npt.NDArray[Any]) -> float:
    """Mean of -log of what was stated for what happened, in nats; NaN for none.

    Probabilities are kept `numpy.finfo(float).eps` away from 0 and 1, where one mistake would be infinite.
    """
    probability, clicked = _probabilities(probability, clicked)
    if not len(clicked):
        return float("nan")
    stated = np.clip(probability, _LEAST, 1 - _LEAST)
    return float(-np.where(clicked == 1, np.log(stated), np.log1p(-stated)).mean())


def mean_squared_error(predicted: npt.NDArray[Any], rating: npt.NDArray[Any]) -> float:
    """Mean of the squared differences of `predicted` [n] and `rating` [n]; NaN for none."""
    predicted, rating = _paired(predicted, rating, "predictions", "ratings")
    return float(((predicted - rating) ** 2).mean()) if len(rating) else float("nan")


def mean_absolute_error(predicted: npt.NDArray[Any], rating: npt.NDArray[Any]) -> float:
    """Mean of the absolute differences of `predicted` [n] and `rating` [n]; NaN for none."""
    predicted, rating = _paired(predicted, rating, "predictions", "ratings")
    return float(np.abs(predicted - rating).mean()) if len(rating) else float("nan")


def _probabilities(probability: npt.NDArray[Any], clicked: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    probability, clicked = _checked(probability, clicked)
    if not np.all((probability >= 0) & (probability <= 1)):
        raise ValueError("a probability is outside 0 to 1")
    return probability, clicked


def _checked(score: npt.NDArray[Any], clicked: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    score, clicked = _paired(score, clicked, "scores", "outcomes")
    if not np.all((clicked == 0) | (clicked == 1)):
        raise ValueError("an outcome is neither 0 nor 1")
    return score, clicked


def _paired(
    a: npt.NDArray[Any], b: npt.NDArray[Any], name_of_a: str, name_of_b: str
) -> tuple[Floats, Floats]:
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"{name_of_a} {a.shape} and {name_of_b} {b.shape}; there must be one for each, [n]")
    a, b = a.astype(np.float64), b.astype(np.float64)
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError(f"one of the {name_of_a} or {name_of_b} is no number")
    return a, b
