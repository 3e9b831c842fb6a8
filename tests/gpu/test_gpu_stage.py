"""Search, ranker and the stage of both, on a device beside float32 on the processor."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch

from python_backend.gpu.batches import SIZES
from python_backend.gpu.programs import FOLDER, INDEX
from python_backend.gpu.search import GpuSearch, Scan
from python_backend.gpu.stage import RetrieveAndRank
from python_backend.item_index import ItemIndex
from python_backend.release import Release
from tools.gpu.catalogue import Catalogue
from tools.gpu.device_index import DeviceIndex
from tools.gpu.parity import NEAR, Reference, score_difference
from tools.gpu.retrieval import agreement, float_list
from tools.gpu.serving import stage_requests

ITEMS, CANDIDATES = 40_000, 100
MIB = 2**20


@pytest.mark.parametrize("scan", ["fp16", "int8"])
@pytest.mark.parametrize("width", [64, 128])
def test_the_search_finds_what_float32_scores_rank_first(device: str, scan: Scan, width: int) -> None:
    catalogue = Catalogue.of(ITEMS, width, torch.device(device), seed=1)
    queries, seen = catalogue.draw(4, seed=2)
    index = DeviceIndex.of(catalogue)
    search = GpuSearch(index, candidates=CANDIDATES, device=torch.device(device), scan=scan)  # type: ignore[arg-type]

    found = search(queries, seen)
    exactly = search.exactly(queries, seen)

    wanted = float_list(catalogue, queries, seen, CANDIDATES)
    best = torch.where(found.certain.unsqueeze(1), found.items, exactly.items)
    assert agreement(best, wanted) == 1
    assert agreement(exactly.items, wanted) == 1
    assert found.certain.any()


def test_an_index_made_on_the_device_is_that_of_the_build(device: str, made_up: tuple[Release, str]) -> None:
    index = ItemIndex.open(made_up[0].artifacts / FOLDER / INDEX)
    vectors = torch.from_numpy(np.array(index.vectors)).to(device)
    bias = torch.from_numpy(np.array(index.bias[: len(vectors)])).to(device)

    made = DeviceIndex.of(Catalogue(vectors, bias))

    n = len(vectors)
    assert (made.codes.cpu().numpy() != index.codes[:n]).mean() < 1e-4  # steps that rounding decides
    np.testing.assert_allclose(made.scales, index.scales[:n], rtol=1e-6)
    np.testing.assert_array_equal(made.bias, index.bias[:n])
    assert made.code_error == pytest.approx(index.code_error, rel=1e-3)
    assert made.longest == pytest.approx(index.longest, rel=1e-5)


def test_the_stage_answers_like_float32_on_the_processor(
    stage: RetrieveAndRank, reference: Reference, made_up: tuple[Release, str]
) -> None:
    figures = reference.compare(stage, stage_requests(made_up[0], ITEMS, 5, seed=3))

    assert figures.keys() == {"sets", "retrieve", "rank", "batch"}
    assert figures["sets"] == 1
    assert max(figures[name] for name in ("retrieve", "rank", "batch")) <= NEAR


@pytest.mark.parametrize("rows", sorted({1, 3, *SIZES[:4]}))
def test_a_batch_of_every_size_is_answered_like_its_rows_in_other_company(
    stage: RetrieveAndRank, made_up: tuple[Release, str], rows: int
) -> None:
    requests = stage_requests(made_up[0], ITEMS, 11, seed=4)
    whole = stage(requests)
    part = stage({name: array[:rows] for name, array in requests.items()})

    assert {array.shape for array in part.values()} == {(rows, made_up[0].sizes.candidates)}
    assert score_difference(part, {name: array[:rows] for name, array in whole.items()}) <= NEAR
    assert (part["candidate"] == whole["candidate"][:rows]).mean() > 0.99


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
@pytest.mark.parametrize("rows", [*SIZES, 65])
def test_there_is_a_captured_graph_for_every_batch_size(
    stage: RetrieveAndRank, made_up: tuple[Release, str], rows: int
) -> None:
    requests = stage_requests(made_up[0], ITEMS, rows, seed=5)
    first, second = stage(requests), stage(requests)
    # Replayed on other memory in between: nothing is left of the batch before.
    stage(stage_requests(made_up[0], ITEMS, rows, seed=6))
    third = stage(requests)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_array_equal(first[name], third[name])


def test_memory_stays_flat_over_a_thousand_requests(
    stage: RetrieveAndRank, device: str, made_up: tuple[Release, str]
) -> None:
    # On the processor a request takes a hundred times as long.
    count = 1000 if device == "cuda" else 60
    requests = stage_requests(made_up[0], ITEMS, 8, seed=7)
    rows = [{name: array[row : row + 1] for name, array in requests.items()} for row in range(8)]

    def used() -> int:
        if device == "cuda":
            torch.cuda.synchronize()
            return int(torch.cuda.memory_reserved())
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for number in range(count // 4):
        stage(rows[number % 8])
    before = used()
    for number in range(count):
        stage(rows[number % 8])
    assert used() - before <= 8 * MIB
