"""What another policy would have earned."""

from __future__ import annotations

import numpy as np
import pytest

from tools.evaluation.metrics import Interval
from tools.evaluation.off_policy import (
    bootstrap,
    doubly_robust,
    effective_draws,
    importance_weights,
    ips,
    off_policy_report,
    snips,
)
from tools.synthetic.clicks import World

REWARDS = np.array([1.0, 0, 0, 1])
WEIGHTS = np.array([2.0, 1, 0, 0.5])
RUNS, PAGES = 1000, 200


def test_ips_is_the_mean_of_weighted_rewards_with_its_normal_interval() -> None:
    values = WEIGHTS * REWARDS
    reach = 1.959964 * values.std(ddof=1) / 2
    found = ips(REWARDS, WEIGHTS)
    assert found == Interval(*(pytest.approx(x) for x in (0.625, 0.625 - reach, 0.625 + reach)))


def test_snips_is_normalised_by_the_weights_with_an_interval_by_the_delta_method() -> None:
    value = 2.5 / 3.5
    influence = WEIGHTS * (REWARDS - value) / WEIGHTS.mean()
    reach = 1.959964 * np.sqrt((influence**2).sum() * 4 / 3) / 4
    found = snips(REWARDS, WEIGHTS)
    assert found == Interval(*(pytest.approx(x) for x in (value, value - reach, value + reach)))


def test_what_all_draws_earn_alike_snips_says_exactly_and_ips_only_on_average() -> None:
    ones = np.ones(4)
    assert snips(ones, WEIGHTS) == Interval(*(pytest.approx(1),) * 3)
    assert ips(ones, WEIGHTS).mean == pytest.approx(0.875)


def test_draws_of_one_user_count_as_one_observation() -> None:
    often = np.tile(REWARDS, 100), np.tile(WEIGHTS, 100)
    users = np.tile(np.arange(4), 100)
    for estimate in (ips, snips):
        alone, together = estimate(REWARDS, WEIGHTS), estimate(*often, users)
        assert together == Interval(*(pytest.approx(x) for x in (alone.mean, alone.low, alone.high)))


def test_a_model_s_errors_are_put_right_by_what_was_logged() -> None:
    random = np.random.default_rng(2)
    propensity, wanted = np.full(20_000, 0.5), np.where(random.random(20_000) < 0.5, 0.9, 0.1)
    rewards = (random.random(20_000) < np.where(wanted == 0.9, 0.6, 0.2)).astype(float)
    weights = importance_weights(propensity, wanted)
    truth = 0.9 * 0.6 + 0.1 * 0.2
    predicted = np.where(wanted == 0.9, 0.6, 0.2)
    good = doubly_robust(rewards, weights, predicted, np.full(20_000, truth))
    bad = doubly_robust(rewards, weights, predicted + 0.3, np.full(20_000, truth + 0.3))
    for found in (good, bad):
        assert found.low < truth < found.high
    by_ips = ips(rewards, weights)
    assert good.high - good.low < by_ips.high - by_ips.low


def test_equal_weights_are_worth_every_draw_and_one_that_dwarfs_all_is_worth_one() -> None:
    assert effective_draws(np.full(50, 3.0)) == pytest.approx(50)
    assert effective_draws(np.array([1e9, 1, 1])) == pytest.approx(1)
    assert effective_draws(np.zeros(3)) == 0


def test_the_bootstrap_agrees_with_the_normal_interval_where_there_are_many_draws() -> None:
    random = np.random.default_rng(0)
    weights = random.gamma(4, 0.25, 4000)
    rewards = (random.random(4000) < 0.3).astype(float)
    users = np.repeat(np.arange(2000), 2)
    for normal, drawn in zip(
        (ips(rewards, weights, users), snips(rewards, weights, users)),
        bootstrap(rewards, weights, users),
        strict=True,
    ):
        assert drawn.mean == normal.mean
        assert [drawn.low, drawn.high] == pytest.approx([normal.low, normal.high], abs=0.002)


def test_clipping_bounds_the_weights_and_says_how_many_it_cut() -> None:
    logged, wanted = np.array([0.1, 0.5, 0.5, 1.0]), np.array([1.0, 0.5, 0, 0.5])
    plain = off_policy_report(REWARDS, logged, wanted)
    cut = off_policy_report(REWARDS, logged, wanted, clip=2.0)
    assert (plain.largest_weight, plain.clipped) == (10, 0)
    assert (cut.largest_weight, cut.clipped) == (2, 1)
    assert cut.ips.mean == pytest.approx((2 + 0.5) / 4)
    assert cut.mean_weight == plain.mean_weight  # says whether all could be drawn, so it is never cut


def test_the_policy_that_logged_earns_what_was_logged() -> None:
    logged = np.array([0.1, 0.5, 0.5, 1.0])
    report = off_policy_report(REWARDS, logged, logged)
    assert report.ips == report.logged
    assert report.snips.mean == report.logged.mean
    assert report.difference == Interval(0, 0, 0)
    assert report.effective_draws == pytest.approx(4)


def test_a_policy_that_shows_nothing_that_was_drawn_has_no_estimate() -> None:
    report = off_policy_report(REWARDS, np.full(4, 0.5), np.zeros(4))
    assert report.ips == Interval(0, 0, 0)
    assert np.isnan(report.snips.mean)
    assert report.effective_draws == 0


@pytest.mark.parametrize(
    ("propensities", "words"), [([0.5, 0], "a propensity is 0.0"), ([], "there are no draws")]
)
def test_without_propensities_there_is_no_estimate(propensities: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        importance_weights(np.array(propensities), np.zeros(len(propensities)))


@pytest.fixture(scope="module", params=["epsilon", pytest.param("thompson", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def test_the_truth_of_the_made_up_users_is_what_the_other_policy_earns_in_their_place(world: World) -> None:
    draws = world.draw(20_000, seed=7)
    earned = world.rates[draws.contexts, draws.items]
    weights = importance_weights(draws.propensity, draws.wanted)
    # Without the noise of clicks.
    assert ips(earned, weights).mean == pytest.approx(world.truth(), rel=0.01)
    assert abs(earned.mean() - world.truth()) > 0.01  # there is something to estimate


def test_the_interval_covers_the_truth_as_often_as_it_says(world: World) -> None:
    draws = world.draw(RUNS * PAGES, seed=11)
    truth = world.truth()
    weights = importance_weights(draws.propensity, draws.wanted)
    pages = np.repeat(np.arange(PAGES), len(weights) // (RUNS * PAGES))
    covered = 0
    for rewards, of_run in zip(np.split(draws.rewards, RUNS), np.split(weights, RUNS), strict=True):
        found = ips(rewards, of_run, pages)
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / RUNS <= 0.97
