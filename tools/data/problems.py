"""What is wrong with the data: collected whole, then told in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

LineFinder = Callable[[Iterable[int]], dict[int, int]]
"""Gives the line numbers, by row, of the rows that it is asked about."""

LISTED = 20
"""How many problems of one kind in one column are listed; the others are only counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where.

    Attributes:
        file: the path as the configuration gives it.
        column: the column's name, or None where the whole file or row is meant.
        row: the data row, counted from 1 without the header and without blank lines, or None.
        message: what was found and what to do.
        line: for text files, the line of the file on which the row begins, counted from 1 with the header.
        more: how many more problems of the same kind were found in this column but are not listed.
    """

    file: str
    column: str | None
    row: int | None
    message: str
    line: int | None = None
    more: int = 0

    def __str__(self) -> str:
        column = [f"column {self.column!r}"] if self.column is not None else []
        return ", ".join([self.file, *column, *self._row()]) + f": {self.message}"

    def _row(self) -> list[str]:
        if self.row is None:
            return []
        return [f"row {self.row}" + (f" (line {self.line})" if self.line is not None else "")]

    def within_column(self) -> str:
        """The problem as one line, for a listing that already names file and column."""
        return ": ".join([*self._row(), self.message])


class DataProblems(Exception):
    """The data cannot be used; `problems` lists why, and printing it tells a person what to change."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.render())

    def render(self) -> str:
        """All problems as text, grouped by file and column."""
        count = sum(1 + problem.more for problem in self.problems)
        lines = [f"The data has {count:,} problem{'s' if count > 1 else ''}; nothing was written."]
        for file, of_file in groupby(self.problems, key=lambda problem: problem.file):
            lines += ["", file]
            for column, of_column in groupby(of_file, key=lambda problem: problem.column):
                lines += [f"  column {column!r}"] if column is not None else []
                indent = "    " if column is not None else "  "
                for problem in of_column:
                    lines.append(indent + problem.within_column())
                    if problem.more:
                        lines.append(f"{indent}… and {problem.more:,} more")
        return "\n".join(lines)


class Collector:
    """Takes problems in while files are read, and raises them together.

    At most `LISTED` problems of each kind, file and column are kept; the rest is counted.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str | None, str], list[Problem]] = {}
        self._counts: dict[tuple[str, str | None, str], int] = {}
        self._columns: dict[str, list[str]] = {}
        self._line_finders: dict[str, LineFinder] = {}

    def expect(self, file: str, columns: Sequence[str], find_lines: LineFinder | None = None) -> None:
        """Announce a file: the listing has files and their columns in the order in which they are announced.

        `find_lines` turns row numbers of a text file into line numbers, if anything turns out to be wrong.
        """
        known = self._columns.setdefault(file, [])  # one file may be two tables
        known += [column for column in columns if column not in known]
        if find_lines:
            self._line_finders[file] = find_lines

    def add(self, kind: str, file: str, column: str | None, message: str, *, row: int | None = None) -> None:
        """Note one problem; `kind` groups those of which a few examples are enough."""
        self.add_rows(kind, file, column, [0], lambda _: row, lambda _: message)

    def add_rows(
        self,
        kind: str,
        file: str,
        column: str | None,
        positions: Sequence[int],
        row: Callable[[int], int | None],
        message: Callable[[int], str],
    ) -> None:
        """Note one problem for each of `positions`; `row` and `message` are only asked about listed ones."""
        if len(positions) == 0:
            return
        key = (file, column, kind)
        listed = self._groups.setdefault(key, [])
        self._counts[key] = self._counts.get(key, 0) + len(positions)
        for position in positions[: LISTED - len(listed)]:
            listed.append(Problem(file, column, row(int(position)), message(int(position))))

    def __bool__(self) -> bool:
        return bool(self._groups)

    def about(self, file: str) -> bool:
        """Whether anything is wrong with `file`."""
        return any(key[0] == file for key in self._groups)

    def raise_if_any(self) -> None:
        """Raises DataProblems if any problem was noted."""
        if not self._groups:
            return
        problems = []
        for key, listed in self._groups.items():
            *most, last = listed
            problems += [*most, replace(last, more=self._counts[key] - len(listed))]
        problems.sort(key=self._place)  # stable: what is found first comes first within a column
        raise DataProblems(self._with_lines(problems))

    def _place(self, problem: Problem) -> tuple[int, int]:
        columns: list[str | None] = [None, *self._columns[problem.file]]
        return list(self._columns).index(problem.file), columns.index(problem.column)

    def _with_lines(self, problems: list[Problem]) -> list[Problem]:
        lines: dict[str, dict[int, int]] = {}
        for file, finder in self._line_finders.items():
            rows = {problem.row for problem in problems if problem.file == file and problem.row is not None}
            lines[file] = finder(rows) if rows else {}
        return [
            replace(problem, line=lines.get(problem.file, {}).get(problem.row))
            if problem.row is not None
            else problem
            for problem in problems
        ]


def shown(value: object, most: int = 40) -> str:
    """`value` for a message: as Python writes it, cut to `most` characters."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"
