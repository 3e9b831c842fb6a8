"""The search's kernels: interpreted, compiled for cards that are not here, and run on one that is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import kernel_checks
import pytest
import torch

from python_backend.gpu.fused import kernels_importable, tile_size


def run(program: str, *arguments: str, **environment: str) -> str:
    """What `program`, a file beside this one, prints: a process interprets all kernels or none."""
    assert kernels_importable(), "the package triton is missing; the extra dev has it"
    ours = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(program)), *arguments],
        env={**ours, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=220,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_interpreted_kernels_find_what_operators_find() -> None:
    assert run("kernel_checks.py", TRITON_INTERPRET="1") == "the kernels do what they must\n"


@pytest.mark.gpu
@pytest.mark.parametrize(("scan", "rows", "width"), kernel_checks.CASES)
def test_on_a_card_kernels_find_what_operators_find(scan: kernel_checks.Scan, rows: int, width: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU: torch.cuda.is_available() is False")
    kernel_checks.finds_what_operators_find("cuda", scan, rows, width)


@pytest.mark.gpu
def test_on_a_card_kernels_break_ties_by_item_and_find_nothing_where_all_is_seen() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU: torch.cuda.is_available() is False")
    kernel_checks.breaks_ties_by_item_and_finds_nothing_where_all_is_seen("cuda")


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 89, 90, 120])
def test_the_kernels_compile_for_cards_that_are_not_here(capability: int, tmp_path: Path) -> None:
    said = run("compile_kernels.py", str(capability), TRITON_CACHE_DIR=str(tmp_path))
    assert said == f"SM{capability}: compiled\n"


def test_there_are_many_times_as_many_tiles_as_candidates_or_no_kernels() -> None:
    assert tile_size(100_000, 500) == 16
    for items in (1_000_000, 10_000_000):
        tile = tile_size(items, 500)
        assert tile is not None
        assert 24 * 500 <= items // tile <= 48 * 500
    assert tile_size(1682, 500) is None
    assert tile_size(10_000_000, 2000) is None
