"""Rates of arms: what is counted, and intervals that hold for users whose views are alike."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from tritonrec_client.contract import Event
from tritonrec_client.experiment import Arm, Experiment

from python_backend.stores import UserEvent
from tools.evaluation.experiments import (
    Counts,
    ExperimentReport,
    Tally,
    analyse,
    split_probability,
    tally,
)
from tools.evaluation.forest import forest_plot
from tools.evaluation.metrics import Interval

A, B, OTHER = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"
EXPERIMENT = Experiment("two-arms", (Arm("old", A, 0.5), Arm("new", B, 0.5)))


def event(user: int, kind: Event, release: str | None = A, timestamp: int = 100) -> UserEvent:
    return UserEvent(user, 7, kind, timestamp, bytes(16), release)


def simulated(random: np.random.Generator, users: int, ctr: float, *, alike: bool = True) -> Counts:
    """Users with 1 to 60 views each; if they are `alike`, every user has a CTR of his own."""
    counts = np.zeros((users, 5), dtype=np.int64)
    counts[:, Event.VIEW] = random.integers(1, 61, size=users)
    own = random.beta(2, 2 / ctr - 2, size=users) if alike else ctr
    counts[:, Event.CLICK] = random.binomial(counts[:, Event.VIEW], own)
    return counts


def report_of(*arms: Counts) -> ExperimentReport:
    names = [arm.name for arm in EXPERIMENT.arms]
    return analyse(EXPERIMENT, Tally(dict(zip(names, arms, strict=True)), {}, 0))


def covers(interval: Interval | None, truth: float) -> bool:
    assert interval is not None
    return interval.low <= truth <= interval.high


# What is counted.


def test_an_event_belongs_to_the_arm_whose_release_made_its_page() -> None:
    found = tally(
        [event(1, Event.VIEW), event(1, Event.CLICK), event(2, Event.VIEW, B), event(1, Event.VIEW)],
        EXPERIMENT,
    )
    old, new = analyse(EXPERIMENT, found).arms
    assert (old.users, old.views, old.clicks) == (1, 2, 1)
    assert (new.users, new.views, new.clicks) == (1, 1, 0)


def test_every_kind_of_event_is_counted_as_what_it_is() -> None:
    events = [event(1, kind) for kind in Event for _ in range(kind)]
    old = analyse(EXPERIMENT, tally(events, EXPERIMENT)).arms[0]
    assert (old.views, old.clicks, old.purchases, old.skips) == (1, 2, 3, 4)


def test_events_of_other_releases_are_counted_apart() -> None:
    found = tally(
        [event(1, Event.VIEW), *3 * [event(1, Event.CLICK, None)], event(2, Event.VIEW, OTHER)], EXPERIMENT
    )
    assert found.elsewhere == {"no page": 3, OTHER: 1}
    assert found.arms["old"].sum() == 1


def test_earlier_events_are_left_out() -> None:
    events = [event(1, Event.VIEW, timestamp=99), event(1, Event.VIEW), event(1, Event.VIEW, None, 3)]
    found = tally(events, EXPERIMENT, since=100)
    assert (found.arms["old"].sum(), found.elsewhere) == (1, {})


def test_an_arm_without_events_has_no_rates() -> None:
    report = analyse(EXPERIMENT, tally([event(1, Event.VIEW), event(2, Event.VIEW)], EXPERIMENT))
    new = report.arms[1]
    assert (new.users, new.ctr, new.ctr_ratio, new.ctr_difference) == (0, None, None, None)
    assert "arm new has no views: there is no rate without them" in report.warnings
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["arms"][1]["ctr"] is None


# How sure one can be.


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """600 experiments with a known effect; at 95 % the share that covers has a standard error of 0.9 %."""
    random, rounds = np.random.default_rng(11), 600
    hits = np.zeros(4)
    for _ in range(rounds):
        old, new = report_of(simulated(random, 400, 0.05), simulated(random, 400, 0.06)).arms
        hits += [
            covers(old.ctr, 0.05),
            covers(new.ctr, 0.06),
            covers(new.ctr_difference, 0.01),
            covers(new.ctr_ratio, 1.2),
        ]
    assert ((hits / rounds > 0.925) & (hits / rounds < 0.975)).all(), hits / rounds


def test_views_counted_as_if_they_were_independent_would_promise_too_much() -> None:
    """The usual interval of a proportion misses the truth much more often: the views of a user are alike."""
    random, rounds = np.random.default_rng(12), 300
    hits = 0
    for _ in range(rounds):
        views, clicks = simulated(random, 400, 0.05)[:, [Event.VIEW, Event.CLICK]].sum(axis=0)
        rate = clicks / views
        hits += abs(rate - 0.05) < 1.96 * np.sqrt(rate * (1 - rate) / views)
    assert hits / rounds < 0.9


def test_users_with_tastes_of_their_own_widen_the_interval() -> None:
    random = np.random.default_rng(13)
    clustered, independent = report_of(
        simulated(random, 4000, 0.05), simulated(random, 4000, 0.05, alike=False)
    ).arms
    assert clustered.ctr is not None
    assert independent.ctr is not None
    assert clustered.ctr.high - clustered.ctr.low > 1.3 * (independent.ctr.high - independent.ctr.low)


def test_independent_views_have_the_interval_of_a_proportion() -> None:
    counts = np.zeros((5000, 5), dtype=np.int64)
    counts[:, Event.VIEW] = 1
    counts[:500, Event.CLICK] = 1
    ctr = report_of(counts, counts).arms[0].ctr
    assert ctr is not None
    spread = 1.96 * np.sqrt(0.1 * 0.9 / 5000)
    assert (ctr.mean, ctr.low, ctr.high) == pytest.approx((0.1, 0.1 - spread, 0.1 + spread), rel=1e-3)


def test_no_click_at_all_does_not_mean_that_the_rate_is_surely_0() -> None:
    nothing = np.zeros((1000, 5), dtype=np.int64)
    nothing[:, Event.VIEW] = 1
    some = nothing.copy()
    some[:3, Event.CLICK] = 1
    old, new = report_of(some, nothing).arms
    assert new.ctr is not None
    assert (new.ctr.mean, new.ctr.low) == (0, 0)
    assert 0.003 < new.ctr.high < 0.004
    assert new.ctr_ratio is None
    assert covers(new.ctr_difference, 0)
    assert old.ctr_difference is None


# Whether the split is as planned.


def test_numbers_as_chance_makes_them_are_no_mismatch() -> None:
    random = np.random.default_rng(14)
    found = [split_probability(random.multinomial(2000, [0.7, 0.2, 0.1]), [7, 2, 1]) for _ in range(300)]
    assert all(probability is not None for probability in found)
    assert 0.4 < np.mean([probability or 0 for probability in found]) < 0.6  # evenly from 0 to 1
    assert min(probability or 0 for probability in found) > 0.001


def test_an_arm_that_loses_users_is_a_mismatch_in_plain_words() -> None:
    random = np.random.default_rng(15)
    report = report_of(simulated(random, 5200, 0.05), simulated(random, 4700, 0.05))
    assert report.split_probability is not None
    assert report.split_probability < 1e-5
    assert report.warnings[0].startswith(
        "sample ratio mismatch: 5,200 in old (50.0% planned), 4,700 in new (50.0% planned)."
    )


@pytest.mark.parametrize(
    ("users", "weights"), [([4, 4], [0.5, 0.5]), ([90, 0], [1.0, 0.0]), ([0, 0], [1, 1])]
)
def test_too_few_users_tell_nothing_about_the_split(users: list[int], weights: list[float]) -> None:
    assert split_probability(users, weights) is None


def test_a_user_of_two_arms_is_said() -> None:
    found = tally([event(1, Event.VIEW), event(1, Event.VIEW, B), event(2, Event.VIEW)], EXPERIMENT)
    assert found.shared_users == 1
    assert any(
        warning.startswith("1 users have events of more than one arm")
        for warning in analyse(EXPERIMENT, found).warnings
    )


def test_more_clicks_than_views_is_said() -> None:
    found = tally([event(1, Event.VIEW), event(2, Event.VIEW), *5 * [event(1, Event.CLICK)]], EXPERIMENT)
    warnings = analyse(EXPERIMENT, found).warnings
    assert "arm old has more clicks than views; is every shown item recorded as a view?" in warnings


def test_the_plot_is_a_picture_of_every_arm_with_a_rate() -> None:
    random = np.random.default_rng(16)
    report = report_of(simulated(random, 200, 0.05), simulated(random, 200, 0.05))
    picture = forest_plot(report)
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert picture == forest_plot(report)
    nobody = np.zeros((0, 5), dtype=np.int64)
    with pytest.raises(ValueError, match="no arm has a click-through rate"):
        forest_plot(report_of(nobody, nobody))
