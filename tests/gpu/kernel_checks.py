"""What the search's kernels must do, on any device; run as a program, by Triton's interpreter."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from python_backend.gpu.search import GpuSearch
from python_backend.item_index import ItemIndex

Scan = Literal["fp16", "int8"]
CASES: tuple[tuple[Scan, int, int], ...] = (("fp16", 1, 16), ("fp16", 3, 20), ("int8", 1, 12))
"""What is scanned, rows and width."""


def searches(vectors: Any, bias: Any, device: str, scan: Scan) -> tuple[GpuSearch, GpuSearch]:
    """By the kernels, and by PyTorch's operators."""
    index, target = ItemIndex.of(vectors, bias), torch.device(device)
    with_kernels, without = (
        GpuSearch(index, candidates=8, device=target, scan=scan, fused=fused, small=0)
        for fused in (True, False)
    )
    assert with_kernels.fused
    assert not without.fused
    return with_kernels, without


def finds_what_operators_find(device: str, scan: Scan, rows: int, width: int) -> None:
    random = np.random.default_rng(rows)
    # Not a whole number of tiles.
    vectors, bias = random.normal(size=(281, width)), random.normal(scale=0.3, size=281)
    fused, plain = searches(vectors.astype(np.float32), bias.astype(np.float32), device, scan)
    queries = torch.from_numpy(random.normal(size=(rows, width)).astype(np.float32)).to(device)
    seen = torch.from_numpy(random.integers(0, 281, (rows, 300)).astype(np.int32)).to(device)
    for _ in range(2):  # the second time without marks of the first
        found, wanted = fused(queries, seen), plain(queries, seen)
        assert found.certain.all()
        assert found.items.tolist() == wanted.items.tolist()
        assert torch.allclose(found.scores, wanted.scores, rtol=1e-3, atol=1e-3)
        seen = seen.flip(1)[:, :150]


def breaks_ties_by_item_and_finds_nothing_where_all_is_seen(device: str) -> None:
    vectors = np.ones((301, 8), np.float32)
    vectors[40:45] = 2
    fused, _ = searches(vectors, np.zeros(301, np.float32), device, "fp16")
    seen = torch.zeros((2, 300), dtype=torch.int32, device=device)
    seen[1] = torch.arange(1, 301)
    found = fused(torch.ones((2, 8), device=device), seen)
    # Everything ties for the last three places: more than there is room for.
    assert found.certain.tolist() == [False, True]
    assert found.items[1].tolist() == [0] * 8
    assert (found.scores[1] == -1e4).all()
    seen[0, :290] = torch.arange(11, 301)
    found = fused(torch.ones((2, 8), device=device), seen)
    assert found.certain.all()
    assert found.items[0].tolist() == [*range(1, 9)]


if __name__ == "__main__":
    for case in CASES:
        finds_what_operators_find("cpu", *case)
    breaks_ties_by_item_and_finds_nothing_where_all_is_seen("cpu")
    print("the kernels do what they must")
