"""Which settings to try, in which order, and which of them is better than the shipped one: no server here.

A first look walks through the values one key at a time (coordinate descent). What looks best is then measured
against the shipped setting in rounds, and that decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import median

from tools.config.tuning import ModelTuning, Tuning, describe_tuning

RESOLUTION = 0.05
"""How closely one search knows a capacity: less is no difference."""
DEARER = 0.10
"""By which share the median under light load may grow."""
LIGHT = 0.25
"""Light load, as a share of the shipped setting's capacity."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What differs from the shipped values: (model, key, value) each, sorted. Nothing is as shipped."""

    changes: tuple[tuple[str, str, int], ...] = ()

    def having(self, model: str, key: str, value: int, shipped: Tuning) -> Setting:
        """This setting, but with `value`; what is as `shipped` is no change."""
        others = [change for change in self.changes if change[:2] != (model, key)]
        if getattr(shipped[model], key) != value:
            others.append((model, key, value))
        return Setting(tuple(sorted(others)))

    @property
    def tuning(self) -> dict[str, ModelTuning]:
        """The changes by model."""
        tables: dict[str, dict[str, int]] = {}
        for model, key, value in self.changes:
            tables.setdefault(model, {})[key] = value
        return {model: ModelTuning(**table) for model, table in tables.items()}

    def __str__(self) -> str:
        return describe_tuning(self.tuning) or "as shipped"


SHIPPED = Setting()


@dataclass(frozen=True, slots=True)
class Axis:
    """One key of one model and the values to try."""

    model: str
    key: str
    values: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.model}.{self.key}"


@dataclass(frozen=True, slots=True)
class Score:
    """One measurement: the capacity in requests per second, 0 where no rate held, and the median in
    milliseconds under light load, NaN where that was not asked for."""

    capacity: float
    light_ms: float = math.nan


@dataclass(frozen=True, slots=True)
class Look:
    """A first look at `setting`, beside that at `against`, which it changes in one value."""

    setting: Setting
    against: Setting
    capacity: float
    compared_with: float

    @property
    def ratio(self) -> float:
        """How much better it looked; NaN where there was nothing to compare with."""
        return self.capacity / self.compared_with if self.compared_with else math.nan


@dataclass(slots=True)
class FirstLook:
    """All first looks, the axes that there was no time for, and the settings that are worth another look."""

    looks: list[Look] = field(default_factory=list)
    untried: list[Axis] = field(default_factory=list)
    estimates: dict[Setting, float] = field(default_factory=lambda: {SHIPPED: 1.0})
    """Capacity as a multiple of the shipped setting's, a chain of ratios."""

    def finalists(self, count: int) -> list[Setting]:
        """The `count` settings besides the shipped one that looked best, the best first."""
        others = [setting for setting in self.estimates if setting != SHIPPED]
        return sorted(others, key=lambda setting: -self.estimates[setting])[:count]


def look_around(
    axes: Sequence[Axis],
    shipped: Tuning,
    measure: Callable[[Setting], float],
    has_time_for: Callable[[int], bool],
) -> FirstLook:
    """One axis after the other, from the shipped setting on, which each time stays or moves.

    The setting so far is measured again beside each axis, because a shared machine is not the same for
    minutes. It moves where a value looks better by more than `RESOLUTION`. `has_time_for` says whether there
    is time for so many more measurements.
    """
    found, here = FirstLook(), SHIPPED
    for axis in axes:
        there = [here.having(axis.model, axis.key, value, shipped) for value in axis.values]
        others = [setting for setting in dict.fromkeys(there) if setting != here]
        if not others:
            continue
        if not has_time_for(len(others) + 1):
            found.untried.append(axis)
            continue
        base = measure(here)
        looks = [Look(setting, here, measure(setting), base) for setting in others]
        found.looks += looks
        if not base:
            continue  # the machine was disturbed: nothing can be said
        for look in looks:
            found.estimates[look.setting] = found.estimates[here] * look.ratio
        best = max(looks, key=lambda look: look.ratio)
        if best.ratio > 1 + RESOLUTION:
            here = best.setting
    return found


@dataclass(slots=True)
class Finals:
    """Rounds in which every finalist is measured once and the shipped setting twice, in a drawn order."""

    shipped: list[tuple[Score, Score]] = field(default_factory=list)
    finalists: dict[Setting, list[Score]] = field(default_factory=dict)

    def play(self, number: int, finalists: Sequence[Setting], measure: Callable[[Setting], Score]) -> None:
        """Round `number`."""
        order = [SHIPPED, SHIPPED, *finalists]
        Random(number).shuffle(order)
        scores: dict[Setting, list[Score]] = {}
        for setting in order:
            scores.setdefault(setting, []).append(measure(setting))
        one, two = scores.pop(SHIPPED)
        self.shipped.append((one, two))
        for setting, (score,) in scores.items():
            self.finalists.setdefault(setting, []).append(score)


@dataclass(frozen=True, slots=True)
class Judged:
    """A finalist: its gains over the shipped setting, round by round, and why it wins or does not."""

    setting: Setting
    gains: tuple[float, ...]
    """Capacity ÷ the shipped setting's in the same round."""
    light: tuple[float, ...]
    """The same of the median under light load."""
    wins: bool
    reason: str

    @property
    def gain(self) -> float:
        return median(self.gains)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the rounds say. `noise` is a share: how far the shipped setting was from itself."""

    setting: Setting
    noise: float
    judged: tuple[Judged, ...]


def choose(finals: Finals) -> Choice:
    """The finalist that beats the shipped setting by more than the noise, the best of several; else that.

    In each round the shipped setting is measured twice, and the largest ratio between the two is the noise,
    which is never less than `RESOLUTION`. A finalist wins where the median over the rounds of its capacity,
    divided by the shipped one's in the same round (the geometric mean of the two), is above 1 by more than
    that, and its median latency under light load is not above the shipped one's by more than `DEARER`:
    a capacity that every lone request pays for is none.
    """
    noise = max([RESOLUTION, *(_apart(one.capacity, two.capacity) for one, two in finals.shipped)])
    judged = []
    for setting, scores in finals.finalists.items():
        pairs = list(zip(scores, finals.shipped, strict=True))
        gains = tuple(_ratio(score.capacity, one.capacity, two.capacity) for score, (one, two) in pairs)
        light = tuple(_ratio(score.light_ms, one.light_ms, two.light_ms) for score, (one, two) in pairs)
        judged.append(_judge(setting, gains, light, noise))
    winners = sorted((each for each in judged if each.wins), key=lambda each: -each.gain)
    return Choice(winners[0].setting if winners else SHIPPED, noise, tuple(judged))


def _judge(setting: Setting, gains: tuple[float, ...], light: tuple[float, ...], noise: float) -> Judged:
    if math.isinf(noise):
        return Judged(setting, gains, light, False, "not to be judged: the shipped setting held no rate")
    more, dearer = median(gains) - 1, median(light) - 1
    if more <= noise:
        words = "not more than the noise" if more > 0 else "not more than shipped"
        return Judged(setting, gains, light, False, words)
    if not dearer <= DEARER:
        reason = f"more, but {100 * dearer:.0f} % slower under light load"
        return Judged(setting, gains, light, False, reason)
    return Judged(setting, gains, light, True, "more than the noise")


def _apart(one: float, two: float) -> float:
    """How far two capacities are apart, as a share of the smaller one."""
    return max(one, two) / min(one, two) - 1 if min(one, two) > 0 else math.inf


def _ratio(value: float, one: float, two: float) -> float:
    return value / math.sqrt(one * two) if one > 0 and two > 0 else 0.0


def default_grid(models: Sequence[str], cores: int) -> list[Axis]:
    """What is tried where nobody says otherwise, for a machine of so many `cores`.

    One model for all stages gets every key; models of one stage each get fewer values, the two that compute
    most first, so that a sweep takes no more than a quarter of an hour on 2 cores.
    """
    many = tuple(sorted({1, max(1, cores // 2), cores, cores + 1}))
    if len(models) == 1:
        values = {
            "instances": many,
            "threads": (1, 2),
            "max_queue_delay_microseconds": (0, 500, 2000),
            "preferred_batch_size": (8, 16, 32, 64),
        }
        return [Axis(models[0], key, tried) for key, tried in values.items()]
    heavy = [model for model in ("rank", "retrieve") if model in models]
    light = [model for model in models if model not in heavy]
    return [
        *(Axis(model, "instances", many) for model in heavy),
        *(Axis(model, "threads", (1, 2)) for model in heavy),
        *(Axis(model, "max_queue_delay_microseconds", (0, 500)) for model in models),
        *(Axis(model, "instances", (1, 2)) for model in light),
    ]
