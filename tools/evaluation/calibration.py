"""Whether scores that claim to be probabilities are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.evaluation.metrics import Floats, Ints, normal_quantile


@dataclass(frozen=True, slots=True)
class Calibration:
    """A reliability curve: per bin the mean stated probability, the share of hits, its interval, the count.

    `error` is the expected calibration error: the gap between the two, averaged over predictions.
    """

    probability: Floats
    hit_rate: Floats
    low: Floats
    high: Floats
    count: Ints
    error: float


def calibration(probability: npt.NDArray[Any], hit: npt.NDArray[Any], bins: int = 10) -> Calibration:
    """How well stated probabilities [n] agree with what happened, `hit` [n] of 0 and 1 (Naeini et al. 2015).

    Bins hold equally many predictions (Nguyen & O'Connor 2015), since probabilities of single items are
    small and bins of equal width would hold nearly all of them in the first. Intervals are Wilson's (1927).
    Raises ValueError for a probability outside 0 … 1 or NaN.
    """
    stated = np.asarray(probability, dtype=np.float64).ravel()
    happened = np.asarray(hit, dtype=np.float64).ravel()
    if stated.shape != happened.shape:
        raise ValueError(
            f"{stated.size} probabilities and {happened.size} outcomes; there must be one for each"
        )
    if not np.all((stated >= 0) & (stated <= 1)):
        raise ValueError("a probability is outside 0 to 1")
    if not stated.size:
        empty = np.zeros(0)
        return Calibration(empty, empty, empty, empty, np.zeros(0, dtype=np.int64), 0.0)
    bins = min(bins, stated.size)
    order = np.argsort(stated, kind="stable")
    starts = np.arange(bins) * stated.size // bins
    count = np.diff(np.append(starts, stated.size))
    mean = np.add.reduceat(stated[order], starts) / count
    rate = np.add.reduceat(happened[order], starts) / count
    low, high = _wilson(rate, count)
    error = float((np.abs(mean - rate) * count).sum() / stated.size)
    return Calibration(mean, rate, low, high, count.astype(np.int64), error)


def _wilson(rate: Floats, count: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """Wilson's interval of a proportion, which stays inside 0 … 1 and is honest with few hits."""
    z = normal_quantile()
    centre = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
