"""What an experiment's events say: how often each arm's pages are clicked, and how sure one can be.

Users, not views, were split between the arms, and the views of one user are alike. All intervals are
therefore over users: a rate is a ratio of two sums over users, and its variance is the delta method's (Deng,
Knoblich & Lu 2018, https://arxiv.org/abs/1803.06336). It was chosen over a bootstrap over users because it
says the same, at once, however many users there are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chisquare
from tritonrec_client.contract import Event
from tritonrec_client.experiment import Arm, Experiment

from python_backend.stores import UserEvent
from tools.evaluation.metrics import Interval, normal_quantile

Counts = npt.NDArray[np.int64]
"""``[users, 5]``: how many events of each kind each user of an arm has, by the number of `Event`."""

MISMATCH = 0.001
"""Below this probability the users' numbers are not what the weights make (Fabijan et al. 2019)."""
FEW_USERS = 100
"""With fewer users the delta method's normal approximation is rough."""
LEAST_EXPECTED = 5
"""With fewer users expected in an arm the chi-square test says nothing."""

NO_PAGE = "no page"


@dataclass(frozen=True, slots=True)
class Tally:
    """Events by arm and user.

    Attributes:
        arms: per arm's name the counts of its users.
        elsewhere: how many events belong to no arm, by release or `NO_PAGE`.
        shared_users: how many users have events of more than one arm.
    """

    arms: dict[str, Counts]
    elsewhere: dict[str, int]
    shared_users: int


@dataclass(frozen=True, slots=True)
class ArmReport:
    """What happened on the pages of one arm; a rate or a comparison that does not exist is None.

    `users` are those with at least one event, `ctr` is clicks ÷ views and `purchase_rate` purchases ÷ views,
    `ctr_difference` and `ctr_ratio` are to the first arm.
    """

    name: str
    release: str
    weight: float
    users: int
    views: int
    clicks: int
    purchases: int
    skips: int
    ctr: Interval | None
    purchase_rate: Interval | None
    ctr_difference: Interval | None
    ctr_ratio: Interval | None


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """What an experiment shows so far.

    `split_probability` is how likely numbers of users as uneven as these are by chance, None where there are
    too few; `warnings` are sentences that have to be read before the figures.
    """

    experiment: str
    arms: tuple[ArmReport, ...]
    split_probability: float | None
    elsewhere: dict[str, int]
    shared_users: int
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain, JSON-ready values."""
        return asdict(self)


def tally(events: Iterable[UserEvent], experiment: Experiment, since: int | None = None) -> Tally:
    """Count `events` from the unix second `since` on; each belongs to the arm whose release made its page."""
    arm_of = {arm.release: arm.name for arm in experiment.arms}
    users: dict[str, dict[int, list[int]]] = {arm.name: {} for arm in experiment.arms}
    elsewhere: Counter[str] = Counter()
    for event in events:
        if since is not None and event.timestamp < since:
            continue
        arm = arm_of.get(event.release or "")
        if arm is None:
            elsewhere[event.release or NO_PAGE] += 1
            continue
        users[arm].setdefault(event.user_id, [0] * (len(Event) + 1))[event.event] += 1
    arms_of_user = Counter(user for found in users.values() for user in found)
    return Tally(
        {
            arm: np.array(list(found.values()), dtype=np.int64).reshape(-1, len(Event) + 1)
            for arm, found in users.items()
        },
        dict(elsewhere.most_common()),
        sum(1 for arms in arms_of_user.values() if arms > 1),
    )


def analyse(experiment: Experiment, found: Tally) -> ExperimentReport:
    """Rates with 95 % intervals per arm, each arm against the first, and whether the split is as planned."""
    arms = tuple(_arm_report(arm, found, experiment.arms[0]) for arm in experiment.arms)
    probability = split_probability([arm.users for arm in arms], [arm.weight for arm in arms])
    return ExperimentReport(
        experiment.name,
        arms,
        probability,
        found.elsewhere,
        found.shared_users,
        tuple(_warnings(arms, found, probability)),
    )


def _arm_report(arm: Arm, found: Tally, first: Arm) -> ArmReport:
    counts = found.arms[arm.name]
    totals = counts.sum(axis=0).tolist()
    ctr, purchase_rate = _rate(counts, Event.CLICK), _rate(counts, Event.PURCHASE)
    reference = None if arm is first else _rate(found.arms[first.name], Event.CLICK)
    return ArmReport(
        arm.name,
        arm.release,
        arm.weight,
        users=len(counts),
        views=totals[Event.VIEW],
        clicks=totals[Event.CLICK],
        purchases=totals[Event.PURCHASE],
        skips=totals[Event.SKIP],
        ctr=None if ctr is None else ctr.interval(),
        purchase_rate=None if purchase_rate is None else purchase_rate.interval(),
        ctr_difference=None if ctr is None or reference is None else _difference(ctr, reference),
        ctr_ratio=None if ctr is None or reference is None else _ratio(ctr, reference),
    )


def split_probability(users: Sequence[int], weights: Sequence[float]) -> float | None:
    """How likely the weights make numbers of users at least as uneven, by Pearson's chi-square test.

    None where fewer than two arms have a weight, or fewer than 5 users are expected in one of them.
    """
    split = [(number, weight) for number, weight in zip(users, weights, strict=True) if weight > 0]
    total, weight_sum = sum(number for number, _ in split), sum(weight for _, weight in split)
    expected = [total * weight / weight_sum for _, weight in split]
    if len(split) < 2 or min(expected) < LEAST_EXPECTED:
        return None
    return float(chisquare([number for number, _ in split], expected).pvalue)


@dataclass(frozen=True, slots=True)
class _Rate:
    """A ratio of two sums over users, and its standard error."""

    value: float
    error: float

    def interval(self) -> Interval:
        """A rate is never below 0; it may exceed 1, since a view may be clicked twice."""
        spread = normal_quantile() * self.error
        return Interval(self.value, max(self.value - spread, 0.0), self.value + spread)


def _rate(counts: Counts, event: Event) -> _Rate | None:
    """How many of `event` there are per view; None with fewer than two users, or without a view."""
    users, (above, below) = len(counts), (counts[:, event], counts[:, Event.VIEW])
    total = int(below.sum())
    if users < 2 or not total:
        return None
    value = float(above.sum() / total)
    if not value:
        # No variance was seen, which does not mean that there is none. Wilson's upper end for as many
        # independent views as Kish's effective sample size says, all views of a user being alike.
        independent = total**2 / float(below @ below)
        return _Rate(0.0, normal_quantile() / (independent + normal_quantile() ** 2))
    residual = above - value * below
    return _Rate(value, math.sqrt(users / (users - 1) * float(residual @ residual)) / total)


def _difference(arm: _Rate, first: _Rate) -> Interval:
    spread = normal_quantile() * math.hypot(arm.error, first.error)
    difference = arm.value - first.value
    return Interval(difference, difference - spread, difference + spread)


def _ratio(arm: _Rate, first: _Rate) -> Interval | None:
    """On the scale of logarithms, on which a ratio is nearer to normal, and never below 0."""
    if not arm.value or not first.value:
        return None
    ratio = arm.value / first.value
    spread = normal_quantile() * math.hypot(arm.error / arm.value, first.error / first.value)
    return Interval(ratio, ratio * math.exp(-spread), ratio * math.exp(spread))


def _warnings(arms: Sequence[ArmReport], found: Tally, probability: float | None) -> Iterable[str]:
    if probability is not None and probability < MISMATCH:
        numbers = ", ".join(f"{arm.users:,} in {arm.name} ({arm.weight:.1%} planned)" for arm in arms)
        yield (
            f"sample ratio mismatch: {numbers}. By chance alone numbers like these have a probability of"
            f" {probability:.1g}, so something else decides who is counted, such as an arm that loses"
            " events, or weights that changed. Do not trust the comparison before you know what."
        )
    if found.shared_users:
        yield (
            f"{found.shared_users:,} users have events of more than one arm; they count in each. Did the"
            " weights change meanwhile, or does some service not use the experiment's file?"
        )
    for arm in arms:
        if not arm.weight and arm.users:
            yield f"arm {arm.name} has a weight of 0 but {arm.users:,} users"
        if not arm.views:
            yield f"arm {arm.name} has no views: there is no rate without them"
        elif arm.users < FEW_USERS:
            yield f"arm {arm.name} has {arm.users:,} users: with fewer than {FEW_USERS} intervals are rough"
        if arm.clicks > arm.views > 0:
            yield f"arm {arm.name} has more clicks than views; is every shown item recorded as a view?"
