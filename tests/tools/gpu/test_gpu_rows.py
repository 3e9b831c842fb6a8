"""The table of the GPU's benchmark: every line is there, and says what it can."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tools.gpu.card import Card
from tools.gpu.clock import Clock
from tools.gpu.rows import FAILED, MEASURED, MISSED, REACHED, TRIED, Goal, Row, is_bad, lines
from tools.gpu.sections import Bench, Section, run_section

ROW = Row("speed", "answers", "ms", goal=Goal(0.5, at_most=True))
ROWS = {"one": ROW, "other": Row("speed", "bytes")}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    card = Card.find("cpu")
    return Bench(card, Clock(card), tmp_path, None, until=time.perf_counter() + 60)


def say(what: str) -> None:
    """Nobody listens."""


def section(run: Any, **needs: Any) -> Section:
    return Section("speed", ROWS, run, **needs)


def gives(found: Mapping[str, Row]) -> Any:
    return lambda bench, rows, say: ({"figure": 1}, found)


@pytest.mark.parametrize(
    ("value", "goal", "verdict"),
    [
        (0.4, Goal(0.5, at_most=True), REACHED),
        (0.6, Goal(0.5, at_most=True), MISSED),
        (0.6, Goal(0.6), REACHED),
        (0.59, Goal(0.6), MISSED),
        (0.59, None, MEASURED),
    ],
)
def test_a_figure_is_held_against_its_goal(value: float, goal: Goal | None, verdict: str) -> None:
    row = Row("", "", goal=goal).found(value, on_gpu=True)
    assert (row.value, row.verdict) == (value, verdict)


def test_without_a_gpu_no_speed_is_good_or_bad() -> None:
    assert ROW.found(9.0, on_gpu=False).verdict == TRIED
    assert not is_bad([ROW.found(9.0, on_gpu=False)])


def test_a_figure_that_is_no_number_is_a_failure() -> None:
    row = ROW.found(float("nan"), on_gpu=True)
    assert row.value is None
    assert is_bad([row])


def test_a_missed_goal_and_a_failure_are_bad_and_what_was_not_run_is_not() -> None:
    assert is_bad([ROW.found(0.1, on_gpu=True), ROW.found(0.6, on_gpu=True)])
    assert is_bad([ROW.without(FAILED + "of memory")])
    assert not is_bad([ROW.without("not run: needs a library"), ROW.found(0.1, on_gpu=True)])


def test_a_line_of_the_table_reads_like_a_sentence() -> None:
    measured = ROW.found(0.31234, on_gpu=True, note="twice")
    assert lines([measured, ROW.without("not run: needs a card")]) == [
        ("speed", "answers", "0.312 ms", "≤ 0.5", "reached; twice"),
        ("", "answers", "", "≤ 0.5", "not run: needs a card"),
    ]


@pytest.mark.parametrize(
    ("value", "figure"), [(0.0, "0"), (1234.5, "1,234"), (12.34, "12.3"), (4.2e-5, "4.2e-05"), (3e9, "3e+09")]
)
def test_figures_have_three_digits_that_count(value: float, figure: str) -> None:
    assert lines([Row("", "").found(value, on_gpu=True)])[0][2] == figure


def test_a_section_fills_its_rows_and_those_that_it_leaves_out_say_so(bench: Bench) -> None:
    figures, rows = run_section(section(gives({"one": ROW.found(0.1, on_gpu=True)})), bench, say)
    assert figures == {"figure": 1}
    assert [row.verdict for row in rows] == [REACHED, "not run: no figure"]


def test_a_section_that_breaks_down_says_why_in_each_of_its_rows(bench: Bench) -> None:
    def run(bench: Bench, rows: Mapping[str, Row], say: Any) -> Any:
        raise RuntimeError("out of memory\nand a long story")

    figures, rows = run_section(section(run), bench, say)
    assert [row.verdict for row in rows] == ["failed: RuntimeError: out of memory and a long story"] * 2
    assert "a long story" in figures["error"]


def test_a_section_whose_library_is_missing_is_not_run_and_names_it(bench: Bench) -> None:
    needs = section(gives({}), needs=("json", "no_such_library", "nor.this_one"))
    rows = run_section(needs, bench, say)[1]
    assert {row.verdict for row in rows} == {"not run: needs no_such_library, nor.this_one"}


def test_what_only_a_made_up_release_needs_may_be_given_instead(bench: Bench) -> None:
    needs = section(gives({}), needs_to_make_up=("no_such_library",))
    rows = run_section(needs, bench, say)[1]
    assert {row.verdict for row in rows} == {"not run: needs no_such_library, or a release (--release)"}
    bench.given = (None, None)  # type: ignore[assignment]
    assert {row.verdict for row in run_section(needs, bench, say)[1]} == {"not run: no figure"}


def test_no_section_begins_when_the_time_is_up(bench: Bench) -> None:
    bench.until = time.perf_counter()
    rows = run_section(section(gives({})), bench, say)[1]
    assert {row.verdict for row in rows} == {"not run: no time was left"}
