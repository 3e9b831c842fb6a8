from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tools.bench_retrieval import BAD_USAGE, MISSED, OK, float_search, main, missed, recall

FAST = ["--items", "2000", "--batches", "1", "3", "--repeats", "2", "--candidates", "50", "--width", "16"]


def row(items: int, batch: int, *, scan: float = 1.0, search: float = 1.0, found: float = 1.0) -> dict:
    return {
        "items": items,
        "batch": batch,
        "scan": {"of copy": scan},
        "search": {"of copy": search},
        "recall": found,
    }


def test_a_run_measures_every_size_and_batch_and_finds_the_float_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FAST, "--json", str(tmp_path / "figures.json")]) == OK
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [(row["items"], row["batch"]) for row in figures["rows"]] == [(2000, 1), (2000, 3)]
    for measured in figures["rows"]:
        assert measured["recall"] == 1
        for work in ("copy", "scan", "search", "float scan", "float search"):
            assert measured[work]["ms"] > 0
            assert measured[work]["of copy"] > 0
    assert "÷ copy" in capsys.readouterr().out


@pytest.mark.parametrize("option", [["--items", "0"], ["--repeats", "0"], ["--core", "100000"]])
def test_numbers_that_make_no_sense_are_bad_usage(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(option) == BAD_USAGE
    assert capsys.readouterr().err.startswith("bench_retrieval.py: ")


def test_goals_are_those_of_the_largest_catalogue_one_row_at_a_time() -> None:
    small, large, batch = row(10, 1, scan=0.1), row(1000, 1), row(1000, 8, scan=0.1, search=0.1)
    assert not missed([small, large, batch])
    assert missed([small, {**large, "scan": {"of copy": 0.79}}, batch])
    assert missed([small, {**large, "search": {"of copy": 0.59}}, batch])
    assert (MISSED, OK) == (1, 0)


def test_every_list_must_be_exact() -> None:
    assert missed([row(10, 1, found=0.99), row(1000, 1)])


def test_the_float_search_leaves_out_padding_and_what_is_seen() -> None:
    vectors = np.arange(6, dtype=np.float32)[:, None]
    asked = np.ones((1, 1), np.float32), np.array([[5, 0, 3]], np.int32)
    best = float_search(vectors, np.zeros(6, np.float32), *asked, 3)
    assert best.tolist() == [[4, 2, 1]]


def test_recall_is_the_share_of_what_was_wanted() -> None:
    assert recall(np.array([[1, 2, 3, 0]]), np.array([[3, 2, 4, 5]])) == 0.5
