"""What another policy would have earned, estimated from what a randomised one logged.

Every logged draw has a reward r, the propensity with which the logging policy drew it, and the probability
with which the policy in question would have shown the same item there; their ratio is its weight w. Draws of
one user are alike, so intervals are over users where `groups` says whose each draw was.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.evaluation.metrics import Floats, Interval, normal_quantile

Groups = npt.NDArray[np.int64]
"""``[n]``: equal numbers for draws that belong together."""

_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class OffPolicyReport:
    """What is known of a policy that did not serve.

    Attributes:
        draws: how many logged draws it was judged by.
        users: how many users they were of.
        logged: the mean reward that the logging policy earned with them.
        ips, snips: estimates for the policy in question, see `ips` and `snips`.
        ips_bootstrap, snips_bootstrap: the same with percentile intervals (Efron 1979).
        difference: `snips` − `logged`, of the same draws.
        mean_weight: 1 where the logging policy could have drawn whatever the other would show; below 1, as
            far as its interval is, the other shows items that were never drawn, and IPS is too low.
        effective_draws: how many equally weighted draws would tell as much (Kish 1965).
        largest_weight: above it weights were cut, if they were.
        clipped: how many were.
    """

    draws: int
    users: int
    logged: Interval
    ips: Interval
    snips: Interval
    ips_bootstrap: Interval
    snips_bootstrap: Interval
    difference: Interval
    mean_weight: Interval
    effective_draws: float
    largest_weight: float
    clipped: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def off_policy_report(
    rewards: Floats,
    logged: Floats,
    wanted: Floats,
    groups: Groups | None = None,
    *,
    clip: float | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> OffPolicyReport:
    """All estimates for a policy from the draws of another, each argument ``[n]``.

    `logged` are the propensities, above 0; `wanted` the probabilities under the policy in question. Raises
    ValueError where there is no draw, or a propensity is 0.
    """
    weights = importance_weights(logged, wanted)
    cut = weights if clip is None else np.minimum(weights, clip)
    by_ips, by_snips = bootstrap(rewards, cut, groups, resamples=resamples, seed=seed)
    return OffPolicyReport(
        draws=len(rewards),
        users=len(rewards if groups is None else np.unique(groups)),
        logged=ips(rewards, np.ones(len(rewards)), groups),
        ips=ips(rewards, cut, groups),
        snips=snips(rewards, cut, groups),
        ips_bootstrap=by_ips,
        snips_bootstrap=by_snips,
        difference=_difference(rewards, cut, groups),
        mean_weight=ips(np.ones(len(weights)), weights, groups),
        effective_draws=effective_draws(cut),
        largest_weight=float(cut.max()),
        clipped=int((weights > cut).sum()),
    )


def importance_weights(logged: Floats, wanted: Floats) -> Floats:
    """`wanted` ÷ `logged`, ``[n]``. Raises ValueError for an empty log, or a propensity that is 0."""
    if not len(logged):
        raise ValueError("there are no draws; an estimate needs at least one")
    if not (logged > 0).all():
        raise ValueError(f"a propensity is {logged[~(logged > 0)][0]}; what was drawn has one above 0")
    return np.asarray(wanted / logged, dtype=np.float64)


def ips(rewards: Floats, weights: Floats, groups: Groups | None = None) -> Interval:
    """Inverse propensity scoring (Horvitz & Thompson 1952): the mean of w r, with its 95 % normal interval.

    Without bias as long as the logging policy could draw whatever the other shows, and no weight is cut.
    """
    values = weights * rewards
    mean = float(values.mean())
    return _interval(mean, values - mean, groups)


def snips(rewards: Floats, weights: Floats, groups: Groups | None = None) -> Interval:
    """Self-normalised IPS (Swaminathan & Joachims 2015): Σ w r ÷ Σ w, with its interval by the delta method.

    Its bias vanishes with the number of draws; it varies less than IPS and stays within the rewards' range.
    NaN where all weights are 0.
    """
    total = float(weights.sum())
    if not total > 0:
        return Interval(np.nan, np.nan, np.nan)
    value = float((weights * rewards).sum()) / total
    return _interval(value, weights * (rewards - value) / (total / len(weights)), groups)


def doubly_robust(
    rewards: Floats, weights: Floats, predicted: Floats, expected: Floats, groups: Groups | None = None
) -> Interval:
    """The doubly robust estimate (Dudík, Langford & Li 2011): the mean of `expected` + w (r − `predicted`).

    `predicted` is what a model says of the drawn item's reward and `expected` the mean of what it says over
    the items that the policy in question would show, both ``[n]``. It is right where either the propensities
    or the model are.
    """
    values = expected + weights * (rewards - predicted)
    mean = float(values.mean())
    return _interval(mean, values - mean, groups)


def effective_draws(weights: Floats) -> float:
    """(Σ w)² ÷ Σ w²: how many draws of equal weight vary as much; 0 where all weights are 0."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def bootstrap(
    rewards: Floats, weights: Floats, groups: Groups | None = None, *, resamples: int = 2000, seed: int = 0
) -> tuple[Interval, Interval]:
    """IPS and SNIPS with 95 % percentile intervals over `resamples` draws of the groups with replacement."""
    count, reward, weight = (
        _sums(values, groups) for values in (np.ones(len(rewards)), weights * rewards, weights)
    )
    random = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // len(count))
    found: list[list[Floats]] = [[], []]
    for start in range(0, resamples, at_once):
        drawn = random.integers(0, len(count), size=(min(at_once, resamples - start), len(count)))
        total = reward[drawn].sum(axis=1)
        below = weight[drawn].sum(axis=1)
        found[0].append(total / count[drawn].sum(axis=1))
        found[1].append(total[below > 0] / below[below > 0])
    estimates = (ips(rewards, weights).mean, snips(rewards, weights).mean)
    first, second = (
        _percentiles(value, np.concatenate(parts)) for value, parts in zip(estimates, found, strict=True)
    )
    return first, second


def _difference(rewards: Floats, weights: Floats, groups: Groups | None) -> Interval:
    """SNIPS less the mean reward of the same draws."""
    total = float(weights.sum())
    if not total > 0:
        return Interval(np.nan, np.nan, np.nan)
    value, mean = float((weights * rewards).sum()) / total, float(rewards.mean())
    influence = weights * (rewards - value) / (total / len(weights)) - (rewards - mean)
    return _interval(value - mean, influence, groups)


def _interval(value: float, influence: Floats, groups: Groups | None) -> Interval:
    """`value` and its 95 % interval, from how much each draw moves it, ``[n]`` with a mean of 0."""
    sums = _sums(influence, groups)
    count = len(sums)
    if count < 2:
        return Interval(value, -np.inf, np.inf)
    deviation = np.sqrt(count / (count - 1) * float((sums**2).sum())) / len(influence)
    reach = normal_quantile() * deviation
    return Interval(value, float(value - reach), float(value + reach))


def _sums(values: Floats, groups: Groups | None) -> Floats:
    """The sum of `values` ``[n]`` over each group."""
    if groups is None:
        return values
    _, place = np.unique(groups, return_inverse=True)
    return np.asarray(np.bincount(place.ravel(), weights=values), dtype=np.float64)


def _percentiles(value: float, estimates: Floats) -> Interval:
    if not len(estimates):
        return Interval(value, np.nan, np.nan)
    low, high = np.percentile(estimates, [2.5, 97.5])
    return Interval(value, float(low), float(high))
