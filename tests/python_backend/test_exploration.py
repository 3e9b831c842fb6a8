"""Who has which chance of a place that is drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from python_backend.exploration import EpsilonGreedy, Exploration, Thompson, chances_of_highest, log_gamma

POPULARITY = np.array([0, 100, 50, 10, 2, 0], float)
EVERYTHING = np.ones((1, 5), bool)
ITEMS = np.array([[3, 1, 2, 4, 5]])


def test_the_best_item_keeps_what_epsilon_leaves_and_may_be_drawn_again() -> None:
    weight = 1 / (1 + POPULARITY)
    chances = EpsilonGreedy(0.2, weight).of(ITEMS, EVERYTHING)[0]
    expected = 0.2 * weight[ITEMS[0]] / weight[1:].sum()
    expected[0] += 0.8
    np.testing.assert_allclose(chances, expected)
    assert chances[4] == chances[1:].max()  # what nobody has met is drawn most


def test_what_may_not_be_shown_has_no_chance_and_the_others_share_it() -> None:
    eligible = np.array([[True, False, True, True, False]])
    for chances in (
        EpsilonGreedy(0.5, np.ones(6)).of(ITEMS, eligible),
        Thompson(np.ones(6), np.ones(6)).of(ITEMS, eligible),
    ):
        assert chances[0][~eligible[0]].tolist() == [0, 0]
        assert chances.sum() == pytest.approx(1)
    np.testing.assert_allclose(chances[0][eligible[0]], 1 / 3, rtol=1e-6)


def test_one_item_alone_is_certain() -> None:
    eligible = np.array([[True, False, False, False, False]])
    assert EpsilonGreedy(0.5, np.ones(6)).of(ITEMS, eligible)[0, 0] == 1
    assert Thompson(np.full(6, 2.0), np.full(6, 40.0)).of(ITEMS, eligible)[0, 0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("alpha", "beta"),
    [
        ([1, 1, 1], [1, 1, 1]),
        ([0.05] * 4, [9.95] * 4),
        ([3, 30, 300, 0.5], [97, 970, 9700, 9.5]),
        ([0.2, 40, 45, 50, 55, 1], [1, 1000, 1000, 1000, 1000, 60]),
        ([5000, 5100], [1e5, 1e5]),
    ],
)
def test_the_chance_of_the_highest_draw_is_how_often_it_is_the_highest(
    alpha: list[float], beta: list[float]
) -> None:
    a, b = np.array(alpha, float), np.array(beta, float)
    found = chances_of_highest(a[None], b[None], np.ones((1, len(a)), bool))[0]
    draws = np.random.default_rng(3).beta(a, b, (200_000, len(a))).argmax(axis=1)
    assert found.sum() == pytest.approx(1)
    counts = np.bincount(draws, minlength=len(a))
    assert chisquare(counts, found * counts.sum()).pvalue > 0.001


def test_of_two_posteriors_the_chance_is_known_in_closed_form() -> None:
    """For whole numbers it is a finite sum of Beta functions (Cook 2005)."""
    a, b, c, d = 4, 20, 6, 30

    def log_beta(x: float, y: float) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    second = sum(
        math.exp(log_beta(a + i, b + d) - math.log(d + i) - log_beta(1 + i, d) - log_beta(a, b))
        for i in range(c)
    )
    found = chances_of_highest(np.array([[a, c]], float), np.array([[b, d]], float), np.ones((1, 2), bool))
    assert found[0] == pytest.approx([1 - second, second], abs=1e-4)


def test_the_logarithm_of_gamma_is_right() -> None:
    x = np.array([1e-3, 0.1, 0.5, 1, 2, 7.3, 100, 1e6])
    np.testing.assert_allclose(log_gamma(x), [math.lgamma(each) for each in x], rtol=1e-9, atol=1e-9)


def test_draws_follow_the_chances() -> None:
    exploration = Exploration(1, 5, EpsilonGreedy(0.5, np.arange(6.0)), seed=1)
    columns, chances = exploration.chances(
        np.repeat(ITEMS, 20_000, axis=0), np.tile(np.array([[1.0, 5, 4, -np.inf, 3]]), (20_000, 1))
    )
    assert columns[0].tolist() == [1, 2, 4, 0, 3]
    counts = np.bincount(exploration.draw(chances), minlength=5)
    assert counts[4] == 0
    assert chisquare(counts[:4], chances[0, :4] * counts.sum()).pvalue > 0.001


def test_only_the_best_of_the_pool_have_a_chance_and_without_any_nobody_has() -> None:
    exploration = Exploration(1, 2, EpsilonGreedy(1.0, np.ones(6)), seed=1)
    value = np.array([[1.0, 5, 4, 2, 3], [-np.inf] * 5])
    columns, chances = exploration.chances(np.repeat(ITEMS, 2, axis=0), value)
    assert columns[0].tolist() == [1, 2]
    assert chances.tolist() == [[0.5, 0.5], [0, 0]]


def test_two_processes_draw_differently() -> None:
    chances = np.full((64, 16), 1 / 16)
    draws = {tuple(Exploration(1, 16, Thompson(np.ones(2), np.ones(2))).draw(chances)) for _ in range(3)}
    assert len(draws) == 3


def write(folder: Path, **settings: object) -> None:
    (folder / "exploration.json").write_text(
        json.dumps({"places": 2, "method": "epsilon", "epsilon": 0.5, "pool": 3} | settings)
    )
    np.savez(folder / "exploration.npz", weight=np.ones(6), alpha=np.ones(6), beta=np.ones(6))


@pytest.mark.parametrize("method", ["epsilon", "thompson"])
def test_a_release_says_how_it_explores(tmp_path: Path, method: str) -> None:
    write(tmp_path, method=method)
    exploration = Exploration.read(tmp_path)
    assert exploration is not None
    assert exploration.places == 2
    assert exploration.chances(ITEMS, np.arange(5.0)[None])[0].shape == (1, 3)


def test_a_release_that_does_not_say_so_explores_nothing(tmp_path: Path) -> None:
    assert Exploration.read(tmp_path) is None


def test_a_method_of_a_newer_release_is_named(tmp_path: Path) -> None:
    write(tmp_path, method="softmax")
    with pytest.raises(ValueError, match="method is 'softmax'; this release knows epsilon and thompson"):
        Exploration.read(tmp_path)
