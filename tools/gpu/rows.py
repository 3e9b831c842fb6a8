"""The table: what was to be shown, what was found, and whether that is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

REACHED, MISSED, MEASURED, TRIED = "reached", "missed", "measured", "tried only: no GPU"
NOT_RUN = "not run: "
FAILED = "failed: "


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit that a figure must hold: at most, or else at least, `limit`."""

    limit: float
    at_most: bool = False
    words: str = ""

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return self.words or f"{'≤' if self.at_most else '≥'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        section: which part of the benchmark it belongs to.
        what: what was measured, in words.
        value: the figure, in `unit`; None where it was not measured.
        goal: what was asked for; None where nothing was.
        verdict: whether that was reached, or why there is no figure.
        note: what else a reader should know.
    """

    section: str
    what: str
    unit: str = ""
    value: float | None = None
    goal: Goal | None = None
    verdict: str = MEASURED
    note: str = ""

    def found(self, value: float, *, on_gpu: bool, note: str = "") -> Row:
        """This row with its figure, and what the goal says to it. Without a GPU speed says nothing."""
        if not math.isfinite(value):
            return self.without(f"{FAILED}the figure is {value}")
        verdict = MEASURED
        if self.goal is not None:
            verdict = REACHED if self.goal.holds(value) else MISSED
        if not on_gpu:
            verdict = TRIED
        return Row(self.section, self.what, self.unit, value, self.goal, verdict, note or self.note)

    def without(self, verdict: str) -> Row:
        """This row without a figure."""
        return Row(self.section, self.what, self.unit, None, self.goal, verdict, self.note)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "goal": None if self.goal is None else str(self.goal)}


def is_bad(rows: Sequence[Row]) -> bool:
    """Whether a goal was missed, or a section broke down."""
    return any(row.verdict == MISSED or row.verdict.startswith(FAILED) for row in rows)


def lines(rows: Sequence[Row]) -> list[tuple[str, str, str, str, str]]:
    """The cells of the table: section, what, figure, goal, verdict."""
    cells, section = [], ""
    for row in rows:
        figure = "" if row.value is None else f"{_short(row.value)} {row.unit}".strip()
        goal = "" if row.goal is None else str(row.goal)
        verdict = f"{row.verdict}; {row.note}" if row.note else row.verdict
        cells.append(("" if row.section == section else row.section, row.what, figure, goal, verdict))
        section = row.section
    return cells


def _short(value: float) -> str:
    """Three digits that count, without an exponent where that can be read."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:,.{digits}f}"
    return f"{value:.2g}"
