"""The search's kernels: interpreted where there is no GPU, and compiled for cards that are not here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from python_backend.gpu.fused import kernels_importable, tile_size
from python_backend.gpu.search import GpuSearch
from python_backend.item_index import ItemIndex

Scan = Literal["fp16", "int8"]
NO_TRITON = "needs the package triton, which CUDA builds of torch bring along: pip install triton"


@pytest.fixture
def kernels(device: str) -> Iterator[str]:
    """Where the kernels run: on the card, or on the processor by Triton's interpreter."""
    if not kernels_importable():
        pytest.skip(NO_TRITON)
    if device == "cpu" and torch.cuda.is_available():
        pytest.skip("a process interprets kernels or compiles them; here the card runs them")
    with pytest.MonkeyPatch.context() as patch:
        if device == "cpu":
            # Before they are imported, once for the process.
            patch.setenv("TRITON_INTERPRET", "1")
        yield device


def searches(
    vectors: Any, bias: Any, device: str, scan: Scan, candidates: int = 8
) -> tuple[GpuSearch, GpuSearch]:
    """By the kernels, and by PyTorch's operators."""
    index, target = ItemIndex.of(vectors, bias), torch.device(device)
    with_kernels, without = (
        GpuSearch(index, candidates=candidates, device=target, scan=scan, fused=fused, small=0)
        for fused in (True, False)
    )
    assert with_kernels.fused
    assert not without.fused
    return with_kernels, without


@pytest.mark.parametrize(("scan", "rows", "width"), [("fp16", 1, 16), ("fp16", 3, 20), ("int8", 1, 12)])
def test_the_kernels_find_what_operators_find(kernels: str, scan: Scan, rows: int, width: int) -> None:
    random = np.random.default_rng(rows)
    # Not a whole number of tiles.
    vectors, bias = random.normal(size=(421, width)), random.normal(scale=0.3, size=421)
    fused, plain = searches(vectors.astype(np.float32), bias.astype(np.float32), kernels, scan)
    queries = torch.from_numpy(random.normal(size=(rows, width)).astype(np.float32)).to(kernels)
    seen = torch.from_numpy(random.integers(0, 421, (rows, 300)).astype(np.int32)).to(kernels)

    for _ in range(2):  # the second time without marks of the first
        found, wanted = fused(queries, seen), plain(queries, seen)
        assert found.certain.all()
        assert found.items.tolist() == wanted.items.tolist()
        assert torch.allclose(found.scores, wanted.scores, rtol=1e-3, atol=1e-3)
        seen = seen.flip(1)[:, :150]


def test_the_kernels_break_ties_by_item_and_find_nothing_where_all_is_seen(kernels: str) -> None:
    vectors = np.ones((301, 8), np.float32)
    vectors[40:45] = 2
    fused, _ = searches(vectors, np.zeros(301, np.float32), kernels, "fp16")
    seen = torch.zeros((2, 300), dtype=torch.int32, device=kernels)
    seen[1] = torch.arange(1, 301)

    found = fused(torch.ones((2, 8), device=kernels), seen)

    # Everything ties for the last three places: more than there is room for.
    assert found.certain.tolist() == [False, True]
    assert found.items[1].tolist() == [0] * 8
    assert (found.scores[1] == -1e4).all()
    seen[0, :290] = torch.arange(11, 301)
    found = fused(torch.ones((2, 8), device=kernels), seen)
    assert found.certain.all()
    assert found.items[0].tolist() == [*range(1, 9)]


def test_there_are_many_times_as_many_tiles_as_candidates_or_no_kernels() -> None:
    for items in (100_000, 1_000_000, 10_000_000):
        tile = tile_size(items, 500)
        assert tile is not None
        assert 8 * 500 <= items // tile <= 16 * 500
    assert tile_size(1682, 500) is None
    assert tile_size(10_000_000, 2000) is None


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 89, 90, 120])
def test_the_kernels_compile_for_cards_that_are_not_here(capability: int, tmp_path: Path) -> None:
    if not kernels_importable():
        pytest.skip(NO_TRITON)
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).with_name("compile_kernels.py")), str(capability)]
    result = subprocess.run(
        command,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout == f"SM{capability}: compiled\n"
