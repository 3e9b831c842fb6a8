from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from python_backend.channels.rows import Rows, best, own_items

NOTHING: dict[str, NDArray[Any]] = {"columns": np.zeros(0, np.int32), "weights": np.zeros(0, np.float32)}


def rows_of(matrix: NDArray[np.float32], form: str) -> Rows:
    """`matrix` with all its numbers, with those that are not 0, or with ones in their places."""
    if form == "whole":
        offsets = np.arange(len(matrix) + 1) * matrix.shape[1]
        return Rows(offsets, NOTHING["columns"], matrix.ravel())
    places = matrix != 0
    offsets = np.concatenate([[0], np.cumsum(places.sum(axis=1))]).astype(np.int64)
    columns = np.nonzero(places)[1].astype(np.int32)
    return Rows(offsets, columns, NOTHING["weights"] if form == "ones" else matrix[places])


@pytest.mark.parametrize("form", ["whole", "sparse", "ones"])
def test_chosen_rows_are_added_up_with_their_factors(form: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    matrix = np.where(random.random((30, 50)) < 0.4, random.normal(size=(30, 50)), 0).astype(np.float32)
    rows_of(matrix, form).write(tmp_path / "rows")
    rows = Rows.open(tmp_path / "rows")
    chosen, factors = np.array([4, 0, 29, 7], np.int32), np.array([1, -2, 0.5, 3], np.float32)
    numbers = (matrix != 0) if form == "ones" else matrix
    assert len(rows) == 30
    assert rows.sum_of(chosen, factors, 50) == pytest.approx(factors @ numbers[chosen], abs=1e-5)
    assert not rows.sum_of(chosen[:0], factors[:0], 50).any()


def test_opened_rows_are_mapped_and_not_read_into_memory(tmp_path: Path) -> None:
    rows_of(np.ones((3, 4), np.float32), "sparse").write(tmp_path / "rows")
    opened = Rows.open(tmp_path / "rows")
    for name in ("offsets", "columns", "weights"):
        assert isinstance(getattr(opened, name).base, np.memmap)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": np.array([0, 1], np.int64)}, "offsets must rise to 3"),
        ({"offsets": np.array([0, 3, 2, 3], np.int64)}, "offsets must rise to 3"),
        ({"offsets": np.array([0, 2, 3], np.int32)}, r"offsets is int32 \[3\]; it must be int64 \[n\]"),
        ({"columns": np.zeros((1, 3), np.int32)}, r"columns is int32 \[1, 3\]; it must be int32 \[n\]"),
        ({"columns": np.zeros(2, np.int32)}, "2 columns but 3 weights"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(change: dict[str, Any], message: str) -> None:
    fitting = {
        "offsets": np.array([0, 2, 3], np.int64),
        "columns": np.array([1, 2, 1], np.int32),
        "weights": np.ones(3, np.float32),
    }
    Rows(**fitting)
    with pytest.raises(ValueError, match=message):
        Rows(**{**fitting, **change})


def test_files_that_do_not_fit_together_are_refused_with_their_folder(tmp_path: Path) -> None:
    rows_of(np.ones((3, 4), np.float32), "sparse").write(tmp_path / "rows")
    np.save(tmp_path / "rows" / "weights.npy", np.ones(5, np.float32))
    with pytest.raises(ValueError, match="rows: 12 columns but 5 weights"):
        Rows.open(tmp_path / "rows")


@given(st.lists(st.sampled_from([-2.5, -1.0, 0.5, 1.0, 3.0]), max_size=30), st.integers(1, 12))
def test_the_best_are_a_full_sort_cut_off_with_the_lower_of_equal_items_first(
    values: list[float], count: int
) -> None:
    items = np.arange(len(values)) * 3 + 1
    scores = np.array(values, np.float32)
    order = sorted(range(len(values)), key=lambda place: (-scores[place], items[place]))[:count]
    found, found_scores = best(items, scores, count)
    assert found.tolist() == items[order].tolist()
    assert found_scores.tolist() == scores[order].tolist()
    assert (found.dtype, found_scores.dtype) == (np.int32, np.float32)


def test_own_items_are_different_known_and_no_padding() -> None:
    seen = np.array([0, 9, 3, 9, 0, -4, 11, 10], np.int32)
    assert own_items(seen, 10).tolist() == [3, 9, 10]


def test_without_numba_one_line_says_what_is_missing() -> None:
    code = (
        "import sys\n"
        "sys.modules['numba'] = None\n"
        "from python_backend.channels.rows import MissingLibrary, adder\n"
        "try:\n    adder()\n"
        "except MissingLibrary as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "a channel of neighbours needs numba, which is not installed: pip install numba\n"
