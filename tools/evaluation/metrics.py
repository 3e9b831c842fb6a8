"""Figures of merit for lists of recommendations, for all users at once.

Lists are ``ranked int32 [U, K]``: item indices, best first, 0 where a list is shorter. What they are
judged by is ``targets int32 [U]``: one item per user that the models were not shown, 0 for a user without
one. Accuracy is returned per user, so that two methods can be compared on the same users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.stats import norm, rankdata

Ints = npt.NDArray[np.int64]
Items = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

ABSENT = np.iinfo(np.int64).max
"""The rank of a target that is not in its user's list: beyond every cut-off, however long the list was."""

CONFIDENCE = 0.95
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval, 95 % unless something else was asked for."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


# Accuracy: one number per user that has a target.


def ranks(ranked: npt.NDArray[Any], targets: npt.NDArray[Any]) -> Ints:
    """Where each user's target stands: 0 for the first place, `ABSENT` where the list lacks it.

    `ranked` is [U, K], `targets` [U]. Users whose target is 0 are left out, so the result is
    int64 [number of targets above 0], in the order of the users.
    """
    if ranked.ndim != 2 or targets.shape != ranked.shape[:1]:
        raise ValueError(f"ranked is {ranked.shape} and targets {targets.shape}; they must be [U, K] and [U]")
    has_target = targets > 0
    found = ranked[has_target] == targets[has_target, None]
    if not ranked.shape[1]:
        return np.full(len(found), ABSENT, dtype=np.int64)
    return np.where(found.any(axis=1), found.argmax(axis=1), ABSENT).astype(np.int64)


def dcg(ranks: Ints, k: int, gain: float | Floats = 1.0) -> Floats:
    """Discounted cumulative gain at `k` per user: `gain` of the target, a number for all or [n], over
    ``log2(rank + 2)`` inside the first `k` places and 0 beyond them (Järvelin & Kekäläinen 2002).
    """
    return np.where(ranks < k, gain / np.log2(ranks.astype(np.float64) + 2.0), 0.0)


def ndcg(ranks: Ints, k: int) -> Floats:
    """Discounted cumulative gain at `k` per user, as a share of that of the ideal list.

    With one target per user the ideal list has it first and gains 1, so the figure equals `dcg`.
    """
    return dcg(ranks, k)


def hit_rate(ranks: Ints, k: int) -> Floats:
    """1 for each user whose target is among the first `k`, else 0."""
    return (ranks < k).astype(np.float64)


def recall(ranks: Ints, k: int) -> Floats:
    """The share of each user's targets among the first `k`; with one target it equals `hit_rate`."""
    return hit_rate(ranks, k)


def precision(ranks: Ints, k: int) -> Floats:
    """The share of each user's first `k` places that hold a target; with one target at most 1 / `k`.

    Places that a shorter list leaves empty count: they hold no target.
    """
    return hit_rate(ranks, k) / k


def f1(ranks: Ints, k: int) -> Floats:
    """The harmonic mean of `precision` and `recall` at `k` per user, 0 where both are 0."""
    return 2.0 * hit_rate(ranks, k) / (k + 1.0)


def mrr(ranks: Ints, k: int) -> Floats:
    """The reciprocal rank per user, 1 for the first place, 0 beyond the first `k` (Voorhees 1999)."""
    return np.where(ranks < k, 1.0 / (ranks.astype(np.float64) + 1.0), 0.0)


PAGE_METRICS: dict[str, Callable[[Ints], Floats]] = {
    "ndcg_10": partial(ndcg, k=10),
    "ndcg_20": partial(ndcg, k=20),
    "hit_rate_10": partial(hit_rate, k=10),
    "hit_rate_20": partial(hit_rate, k=20),
}
"""What a page's ranks are worth, by the names of these figures in reports and gates."""


# What is recommended, whatever the targets are.


def coverage(ranked: npt.NDArray[Any], k: int, n_items: int) -> float:
    """The share of the catalogue's `n_items` that is in at least one user's first `k`."""
    shown = np.unique(ranked[:, :k])
    return float(np.count_nonzero(shown)) / n_items


def novelty(ranked: npt.NDArray[Any], k: int, popularity: npt.NDArray[Any]) -> Floats:
    """Mean self-information of each user's first `k` items, in bits, [U] (NaN for an empty list).

    An item's self-information is ``-log2`` of its share of all events (Zhou et al. 2010; the free-discovery
    model of Vargas & Castells 2011). `popularity` is the number of events per item index, [I+1]. An item
    that nobody has used yet counts as used once, so that one of them does not make the mean infinite.
    """
    events = max(float(popularity[1:].sum()), 1.0)
    bits = np.log2(events / np.maximum(popularity, 1))
    return _mean_over_list(bits, ranked[:, :k])


def popularity_percentile(popularity: npt.NDArray[Any]) -> Floats:
    """Where each item stands in the catalogue by popularity, 0 to 100, [I+1]; 50 is the middle item.

    Items of equal popularity share their mean position. Index 0 (padding) is NaN.
    """
    position = rankdata(popularity[1:], method="average") - 0.5
    return np.concatenate([[np.nan], 100.0 * position / max(len(position), 1)])


@dataclass(frozen=True, slots=True)
class PopularityBias:
    """How far lists lean towards the popular.

    `recommended` and `history` are mean popularity percentiles (0 to 100) of the items that are recommended
    and of those that the users chose themselves; `gini` is 0 where every item of the catalogue is shown
    equally often and near 1 where a few take all places.
    """

    recommended: float
    history: float
    gini: float


def popularity_bias(ranked: npt.NDArray[Any], k: int, popularity: npt.NDArray[Any]) -> PopularityBias:
    """Popularity of the first `k` items against that of the users' own choices; `popularity` is [I+1].

    Every place in a list and every event of the histories counts once.
    """
    percentile = popularity_percentile(popularity)[1:]
    exposure = np.bincount(ranked[:, :k].ravel(), minlength=len(popularity))[1:]
    return PopularityBias(
        recommended=_weighted_mean(percentile, exposure),
        history=_weighted_mean(percentile, popularity[1:]),
        gini=gini(exposure),
    )


def gini(amounts: npt.NDArray[Any]) -> float:
    """The Gini coefficient of non-negative `amounts` [n]: 0 if all are equal, (n - 1) / n if one has all."""
    ordered = np.sort(amounts).astype(np.float64)
    total = ordered.sum()
    if not total:
        return 0.0
    count = len(ordered)
    return float(2.0 * (np.arange(1, count + 1) @ ordered) / (count * total) - (count + 1) / count)


def intra_list_diversity(ranked: npt.NDArray[Any], k: int, vectors: npt.NDArray[Any]) -> Floats:
    """Mean cosine distance between the items of each user's first `k`, [U] (Ziegler et al. 2005).

    `vectors` is float [I+1, d]. NaN for a list of fewer than two items.
    """
    lists = ranked[:, :k]
    users, width = lists.shape
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = np.asarray(vectors / np.maximum(length, 1e-12), dtype=np.float64)
    present = (lists > 0).astype(np.float64)
    membership = csr_matrix(
        (
            present.ravel(),
            lists.ravel(),
            np.arange(0, users * width + 1, width) if width else [0] * (users + 1),
        ),
        shape=(users, len(vectors)),
    )
    # ‖Σv‖² = Σ‖v‖² + Σ over ordered pairs of v·w: all pairs at the cost of one sum per list.
    total = membership @ directions
    own = membership @ (directions**2).sum(axis=1)
    count = present.sum(axis=1)
    pairs = np.where(count > 1, count * (count - 1), np.nan)
    return np.asarray(1.0 - ((total**2).sum(axis=1) - own) / pairs, dtype=np.float64)


# How sure can one be?


def mean_interval(values: npt.NDArray[Any]) -> Interval:
    """The mean of `values` [n] and its 95 % interval by the normal approximation; NaN values are left out.

    With one value the interval is the value itself; with none, all three are NaN.
    """
    kept = values[~np.isnan(values)]
    if not kept.size:
        return Interval(np.nan, np.nan, np.nan)
    mean = float(kept.mean())
    spread = normal_quantile() * float(kept.std(ddof=1)) / np.sqrt(kept.size) if kept.size > 1 else 0.0
    return Interval(mean, float(mean - spread), float(mean + spread))


def paired_bootstrap(a: Floats, b: Floats, resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of `a` - `b` over the same users [n] and its 95 % percentile interval (Efron 1979).

    Users are drawn with replacement and both methods keep their value for a drawn user, so that what they
    find hard alike cancels out.
    """
    a, b = _paired(a, b)
    (means,) = _resample(a - b, resamples=resamples, seed=seed)
    return _percentile_interval(float((a - b).mean()), means)


def paired_ratio(
    a: Floats, b: Floats, resamples: int = 2000, seed: int = 0, confidence: float = CONFIDENCE
) -> Interval:
    """The mean of `a` over the mean of `b` on the same users, with its paired bootstrap interval.

    NaN where `b` has no positive mean.
    """
    a, b = _paired(a, b)
    if not b.mean() > 0:
        return Interval(np.nan, np.nan, np.nan)
    above, below = _resample(a, b, resamples=resamples, seed=seed)
    kept = below > 0
    return _percentile_interval(float(a.mean() / b.mean()), above[kept] / below[kept], confidence)


def _resample(*columns: Floats, resamples: int, seed: int) -> list[Floats]:
    """Means of each column [n] over `resamples` draws of its rows, the same rows in every column."""
    random = np.random.default_rng(seed)
    rows = len(columns[0])
    at_once = max(1, _DRAWS_AT_ONCE // rows)
    means: list[list[Floats]] = [[] for _ in columns]
    for start in range(0, resamples, at_once):
        drawn = random.integers(0, rows, size=(min(at_once, resamples - start), rows))
        for kept, column in zip(means, columns, strict=True):
            kept.append(column[drawn].mean(axis=1))
    return [np.concatenate(kept) for kept in means]


def _paired(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"{a.shape} and {b.shape} cannot be paired; give one value per user, the same users")
    return a, b


def _percentile_interval(estimate: float, means: Floats, confidence: float = CONFIDENCE) -> Interval:
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(estimate, float(low), float(high))


def normal_quantile() -> float:
    """How many standard deviations a two-sided 95 % interval reaches to either side."""
    return float(norm.ppf((1 + CONFIDENCE) / 2))


def _mean_over_list(per_item: npt.NDArray[Any], lists: npt.NDArray[Any]) -> Floats:
    """The mean of `per_item` [I+1] over each row's items, padding aside; NaN for a row of padding."""
    present = lists > 0
    count = present.sum(axis=1)
    total = np.where(present, per_item[lists], 0.0).sum(axis=1)
    return np.asarray(total / np.where(count, count, np.nan), dtype=np.float64)


def _weighted_mean(values: Floats, weights: npt.NDArray[Any]) -> float:
    total = float(weights.sum())
    return float(values @ weights) / total if total else float("nan")
