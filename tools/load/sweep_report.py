"""What a sweep leaves: a table for people, one for docs/results.md, and every figure for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from tools.config.tuning import Tuning, describe_tuning
from tools.load.sweep import DEARER, SHIPPED, Choice, Finals, FirstLook, Score, Setting


@dataclass(frozen=True, slots=True)
class Sweep:
    """A whole sweep: what was shipped, what was found, and how it came about (`facts`, in words)."""

    shipped: Tuning
    first: FirstLook
    finals: Finals
    choice: Choice
    light_rate: float
    """Requests per second of the light load."""
    facts: Mapping[str, str]

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        choice = self.choice
        noise = (
            "the shipped setting held no rate in one of the rounds, so nothing can be judged"
            if math.isinf(choice.noise)
            else f"the noise is {100 * choice.noise:.0f} %"
        )
        if choice.setting == SHIPPED:
            return f"The shipped values stay: nothing beat them by more than the noise; {noise}."
        (won,) = (each for each in choice.judged if each.setting == choice.setting)
        return f"{choice.setting}: {100 * (won.gain - 1):.0f} % more than as shipped; {noise}."


RULE = (
    "In each round the shipped setting is measured twice; the largest ratio between the two is the noise, at"
    " least 5 %. A setting wins where the median over the rounds of its capacity ÷ the shipped one's in the"
    f" same round is above 1 by more, and its p50 under light load is at most {100 * DEARER:.0f} % higher."
)
FINALS = ("setting", "pages/s", "÷ shipped", "in each round", "p50 under light load", "")
FIRST = ("tried", "pages/s", "÷ the setting it changes")


def finals_rows(sweep: Sweep) -> list[tuple[str, ...]]:
    """A row of `FINALS` per setting, the shipped one first; medians over the rounds."""
    values = describe_tuning(sweep.shipped)
    shipped = [score for pair in sweep.finals.shipped for score in pair]
    twins = ", ".join(_number(one.capacity / two.capacity, 2) for one, two in _whole(sweep.finals))
    kept = "kept" if sweep.choice.setting == SHIPPED else ""
    rows: list[tuple[str, ...]] = [
        (f"as shipped: {values}", *_medians(shipped, "1", f"itself: {twins}"), kept)
    ]
    for each in sweep.choice.judged:
        rounds = ", ".join(_number(gain, 2) for gain in each.gains)
        scores = sweep.finals.finalists[each.setting]
        rows.append((str(each.setting), *_medians(scores, _number(each.gain, 2), rounds), each.reason))
    return rows


def first_rows(sweep: Sweep) -> list[tuple[str, ...]]:
    """A row of `FIRST` per first look, as they came."""
    return [
        (str(look.setting), _number(look.capacity, 0), _number(look.ratio, 2)) for look in sweep.first.looks
    ]


def markdown(sweep: Sweep) -> str:
    """The sweep for docs/results.md."""
    facts = "; ".join(f"{name} {value}" for name, value in sweep.facts.items())
    parts = [f"{sweep.verdict} {RULE}", f"{facts}.", _markdown_table(FINALS, finals_rows(sweep))]
    parts += ["First looks, one search each:", _markdown_table(FIRST, first_rows(sweep))]
    if sweep.first.untried:
        parts.append(f"Not tried, for want of time: {', '.join(map(str, sweep.first.untried))}.")
    return "\n\n".join(parts) + "\n"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The same for a terminal."""
    drawn = Table(title=title)
    for number, name in enumerate(head):
        drawn.add_column(name, overflow="fold", min_width=30 if number == 0 else None)
    for row in rows:
        drawn.add_row(*row)
    return drawn


def figures(sweep: Sweep) -> dict[str, Any]:
    """Every figure, for a JSON."""
    return {
        "verdict": sweep.verdict,
        "facts": dict(sweep.facts),
        "shipped": {model: each.values for model, each in sweep.shipped.items()},
        "chosen": _values(sweep.choice.setting),
        "noise": _json(sweep.choice.noise),
        "light_rate": _json(sweep.light_rate),
        "rounds_of_shipped": [[_score(one), _score(two)] for one, two in sweep.finals.shipped],
        "finalists": [
            {
                "setting": _values(each.setting),
                "wins": each.wins,
                "reason": each.reason,
                "gains": [_json(gain) for gain in each.gains],
                "light_p50_ratios": [_json(ratio) for ratio in each.light],
                "rounds": [_score(score) for score in sweep.finals.finalists[each.setting]],
            }
            for each in sweep.choice.judged
        ],
        "first_looks": [
            {
                "setting": _values(look.setting),
                "against": _values(look.against),
                "capacity": _json(look.capacity),
                "compared_with": _json(look.compared_with),
            }
            for look in sweep.first.looks
        ],
        "untried": [str(axis) for axis in sweep.first.untried],
    }


def _medians(scores: Sequence[Score], ratio: str, rounds: str) -> tuple[str, str, str, str]:
    capacity = median(score.capacity for score in scores)
    light = median(score.light_ms for score in scores)
    return _number(capacity, 0), ratio, rounds, f"{_number(light, 2)} ms"


def _whole(finals: Finals) -> list[tuple[Score, Score]]:
    return [(one, two) for one, two in finals.shipped if one.capacity and two.capacity]


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _json(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _score(score: Score) -> dict[str, float | None]:
    return {"capacity": _json(score.capacity), "light_p50_ms": _json(score.light_ms)}


def _values(setting: Setting) -> dict[str, dict[str, int]]:
    return {model: each.values for model, each in setting.tuning.items()}
