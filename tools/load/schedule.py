"""When requests arrive: at random, at a given rate, whatever became of earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of time with one rate; `counted` is False for a warm-up.

    Raises ValueError unless both numbers are above 0.
    """

    rate: float
    """Arrivals per second, on average."""
    seconds: float
    counted: bool = True

    def __post_init__(self) -> None:
        for name in ("rate", "seconds"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value!r}; it must be a number above 0")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Arrivals of several steps, one after the other.

    `at` float64 ``[N]``, ascending, is when each arrives, in seconds from the beginning; `step` int64 ``[N]``
    is the step that it belongs to.
    """

    steps: tuple[Step, ...]
    at: NDArray[np.float64]
    step: NDArray[np.int64]

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    def __len__(self) -> int:
        return len(self.at)


def poisson(steps: Sequence[Step], seed: int) -> Schedule:
    """A Poisson process of each step's rate: independent, exponentially distributed gaps."""
    random = np.random.default_rng(seed)
    times, numbers, begin = [], [], 0.0
    for number, step in enumerate(steps):
        # Given their count, the arrivals of a Poisson process are uniform over its time.
        count = int(random.poisson(step.rate * step.seconds))
        times.append(begin + np.sort(random.uniform(0, step.seconds, count)))
        numbers.append(np.full(count, number, np.int64))
        begin += step.seconds
    return Schedule(tuple(steps), np.concatenate(times), np.concatenate(numbers))
