"""Times are of what was run, and catalogues are searched as one would by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from tools.gpu.card import Card, NoGpuError
from tools.gpu.catalogue import Catalogue, whole_product
from tools.gpu.clock import Clock, copy_bandwidth

CPU = torch.device("cpu")


def clock_of(turns: int, at_most: float = 60.0) -> Clock:
    return Clock(Card.find("cpu"), turns=turns, at_most=at_most)


def test_works_take_turns_and_the_first_turn_does_not_count() -> None:
    done: list[str] = []
    times = clock_of(2).in_turns({name: lambda name=name: done.append(name) for name in "ab"})  # type: ignore[misc]
    assert done == ["a", "b"] * 3
    assert {name: len(each) for name, each in times.items()} == {"a": 2, "b": 2}


def test_a_time_is_that_of_the_work() -> None:
    times = clock_of(3).in_turns({"short": lambda: None, "long": lambda: time.sleep(0.02)})
    assert (times["long"] >= 0.02).all()
    assert np.median(times["short"]) < 0.01


def test_no_further_turn_begins_when_the_time_is_up() -> None:
    times = clock_of(1000, at_most=0.0).in_turns({"work": lambda: None})
    assert len(times["work"]) == 3


def test_a_copy_reads_and_writes() -> None:
    clock = clock_of(5)
    source = torch.ones(1 << 20)
    target = torch.empty_like(source)
    alone = np.median(clock.in_turns({"copy": lambda: target.copy_(source)})["copy"])
    # Two looks at a busy machine: the same to within a factor of ten, and not of a million.
    assert 0.1 < copy_bandwidth(clock, source.nbytes) / (2 * source.nbytes / alone) < 10


def test_where_there_is_no_gpu_it_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has an NVIDIA GPU")
    with pytest.raises(NoGpuError, match=r"needs an NVIDIA GPU: torch.cuda.is_available\(\) is False"):
        Card.find("cuda")


def test_a_made_up_catalogue_is_that_of_its_seed_and_row_0_is_padding() -> None:
    first, second, other = (Catalogue.of(5000, 16, CPU, seed) for seed in (1, 1, 2))
    assert torch.equal(first.vectors, second.vectors)
    assert not torch.equal(first.vectors, other.vectors)
    assert first.vectors.shape == (5001, 16)
    assert not first.vectors[0].any()
    assert first.vectors[1:].any(dim=1).all()
    lengths = first.vectors[1:].float().norm(dim=1)
    assert 0.8 < lengths.mean() < 1.5


def test_items_of_one_cluster_are_alike() -> None:
    vectors = Catalogue.of(5000, 16, CPU, 1).vectors[1:].float()
    products = vectors[:500] @ vectors.T
    nearest = products.topk(2, dim=1).values[:, 1]
    assert nearest.mean() > 5 * products.mean()


def test_the_whole_product_leaves_out_padding_and_what_was_seen() -> None:
    vectors = torch.arange(6.0)[:, None]
    seen = torch.tensor([[5, 0, 3]], dtype=torch.int32)
    scores, items = whole_product(vectors, torch.zeros(6), torch.ones(1, 1), seen, 3)
    assert items.tolist() == [[4, 2, 1]]
    assert scores.tolist() == [[4, 2, 1]]
