"""Places of a page that are drawn, so that what becomes of an item can be learned: who has which chance.

For each drawn place there is a distribution over a pool of the best candidates, and one draw from it. What is
reported as a place's propensity is the very number that the draw was made with.
"""

from __future__ import annotations

import abc
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

SETTINGS, ARRAYS = "exploration.json", "exploration.npz"
"""The files among a release's artifacts; without them nothing is drawn."""

GRID = 512
"""Points at which densities are summed."""
CELLS_AT_ONCE = 50_000

Floats = npt.NDArray[np.float64]
Items = npt.NDArray[Any]


class Chances(abc.ABC):
    """How a place is drawn from a pool."""

    @abc.abstractmethod
    def of(self, items: Items, eligible: npt.NDArray[np.bool_]) -> Floats:
        """The probability of each item of the pools, float64 ``[B, P]``; 0 where it is not eligible.

        `items` are indices of the release, ``[B, P]``, in each row first the one that would have the place
        otherwise; at least that one is `eligible`, bool ``[B, P]``.
        """


@dataclass(frozen=True)
class EpsilonGreedy(Chances):
    """The best item, or with probability `epsilon` one that is drawn in proportion to its `weight`.

    `weight` is float ``[I + 1]``, above 0 for every item. The drawn one may be the best again.
    """

    epsilon: float
    weight: Floats

    def of(self, items: Items, eligible: npt.NDArray[np.bool_]) -> Floats:
        weight = np.where(eligible, self.weight[items], 0.0)
        chances = self.epsilon * weight / weight.sum(axis=1, keepdims=True)
        chances[:, 0] += 1 - self.epsilon
        return chances


@dataclass(frozen=True)
class Thompson(Chances):
    """Thompson sampling (1933; Chapelle & Li 2011): the item whose draw from its posterior is the highest.

    The posterior of an item's click rate is Beta(alpha, beta), each float ``[I + 1]`` and above 0.
    """

    alpha: Floats
    beta: Floats

    def of(self, items: Items, eligible: npt.NDArray[np.bool_]) -> Floats:
        return chances_of_highest(self.alpha[items], self.beta[items], eligible)


class Exploration:
    """The last `places` of a page are drawn, each from a pool of the `pool` best items that may stand there.

    Draws are those of this process alone; `seed` is for tests.
    """

    def __init__(self, places: int, pool: int, chances: Chances, seed: int | None = None) -> None:
        self.places = places
        self._pool = pool
        self._chances = chances
        self._random = np.random.default_rng(seed)

    @classmethod
    def read(cls, artifacts: Path) -> Self | None:
        """From ``exploration.json`` and ``exploration.npz``; None where the release explores nothing.

        Raises ValueError for a method that is not known here.
        """
        path = artifacts / SETTINGS
        if not path.is_file():
            return None
        settings = json.loads(path.read_text(encoding="utf-8"))
        with np.load(artifacts / ARRAYS) as arrays:
            if settings["method"] == "epsilon":
                chances: Chances = EpsilonGreedy(settings["epsilon"], arrays["weight"])
            elif settings["method"] == "thompson":
                chances = Thompson(arrays["alpha"], arrays["beta"])
            else:
                raise ValueError(
                    f"{path}: method is {settings['method']!r}; this release knows epsilon and thompson"
                )
        return cls(settings["places"], settings["pool"], chances)

    def chances(
        self, items: Items, value: npt.NDArray[np.floating[Any]]
    ) -> tuple[npt.NDArray[np.int64], Floats]:
        """The pool of each row: its columns, best first, and the chance of each, both ``[B, P]``.

        `items` are indices ``[B, columns]`` and `value` what each is worth there, ``[B, columns]``: not a
        finite number where it may not be shown. In a row without anything that may, all chances are 0.
        """
        columns = np.argsort(-value, axis=1, kind="stable")[:, : self._pool]
        eligible = np.isfinite(np.take_along_axis(value, columns, axis=1))
        empty = ~eligible[:, 0]
        eligible[empty, 0] = True
        chances = self._chances.of(np.take_along_axis(items, columns, axis=1), eligible)
        chances[empty] = 0
        return columns, chances

    def draw(self, chances: Floats) -> npt.NDArray[np.int64]:
        """A place in each row's pool, int64 ``[B]``, drawn with the `chances` ``[B, P]``; 0 if all are 0."""
        reached = np.cumsum(chances, axis=1)
        drawn = self._random.random(len(chances)) * reached[:, -1]
        return (reached > drawn[:, None]).argmax(axis=1)


def chances_of_highest(
    alpha: Floats, beta: Floats, eligible: npt.NDArray[np.bool_], grid: int = GRID
) -> Floats:
    """How likely each of some draws from Beta(alpha, beta) is the highest one, float64 ``[B, P]``.

    The integral ∫ f_i(x) Π_{j≠i} F_j(x) dx as a sum over a grid, with x on the logit scale, on which every
    posterior is a smooth hill. The grid begins where the highest draw may be at all; a posterior that is
    narrower than its step is taken for one of a step's width. `alpha`, `beta` and `eligible` are ``[B, P]``.
    """
    # What fits into a processor's cache at a time is several times faster.
    rows = max(1, CELLS_AT_ONCE // (grid * alpha.shape[1]))
    parts = [
        _chances_of_highest(alpha[at : at + rows], beta[at : at + rows], eligible[at : at + rows], grid)
        for at in range(0, len(alpha), rows)
    ]
    return np.concatenate(parts) if parts else np.zeros(alpha.shape)


def _chances_of_highest(alpha: Floats, beta: Floats, eligible: npt.NDArray[np.bool_], grid: int) -> Floats:
    low = np.where(eligible, _reach(alpha, beta, -1), -np.inf).max(axis=1)[:, None]
    high = np.where(eligible, _reach(alpha, beta, +1), -np.inf).max(axis=1)[:, None]
    step = (high - low) / grid
    # Of variance 1/alpha + 1/beta on this scale, about.
    wider = np.minimum(1.0, (1 / alpha + 1 / beta) / step**2)
    alpha, beta = alpha * wider, beta * wider
    x = low + step * (np.arange(grid) + 0.5)
    # x ↦ log σ(x) and log σ(−x)
    log_rate, log_rest = -np.logaddexp(0, -x)[:, None, :], -np.logaddexp(0, x)[:, None, :]
    constant = log_gamma(alpha + beta) - log_gamma(alpha) - log_gamma(beta) + np.log(step)
    constant[~eligible] = -np.inf
    mass = np.exp(alpha[:, :, None] * log_rate + beta[:, :, None] * log_rest + constant[:, :, None])
    above = np.cumsum(mass[:, :, ::-1], axis=2)[:, :, ::-1] - mass / 2
    below = np.maximum(1 - above, 1e-300)
    all_below = np.exp(np.log(below).sum(axis=1, keepdims=True))
    chances = (mass / below * all_below).sum(axis=2)
    return np.asarray(chances / chances.sum(axis=1, keepdims=True), dtype=np.float64)


def log_gamma(x: Floats) -> Floats:
    """The logarithm of the gamma function for x > 0, by Stirling's series, to 11 digits."""
    # Γ(x) = Γ(x + 7) / (x (x + 1) … (x + 6)): the series needs a large argument.
    shift = np.zeros_like(x)
    for add in range(7):
        shift += np.log(x + add)
    y = x + 7
    series = 1 / (12 * y) - 1 / (360 * y**3) + 1 / (1260 * y**5)
    return np.asarray((y - 0.5) * np.log(y) - y + 0.5 * np.log(2 * np.pi) + series - shift)


def _reach(alpha: Floats, beta: Floats, side: int) -> Floats:
    """A logit beyond which, to this `side` (−1 or +1), Beta(alpha, beta) has hardly any mass."""
    # A hill of about this width, whose feet fall like exp(alpha x) to the left and exp(−beta x) to the right.
    foot = alpha if side < 0 else beta
    return np.asarray(np.log(alpha / beta) + side * (6 * np.sqrt(1 / alpha + 1 / beta) + 12 / foot))
