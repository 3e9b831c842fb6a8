"""The search on a device finds what float32 scores rank first, whatever the catalogue is like."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from python_backend.exact_search import ExactSearch
from python_backend.gpu import search as searching
from python_backend.gpu.keys import from_keys, to_keys
from python_backend.gpu.search import GpuSearch
from python_backend.item_index import PADDING_SCORE, ItemIndex
from tools.synthetic.vectors import clustered_vectors

Floats = NDArray[np.float32]
Scan = Literal["fp16", "int8"]


def search_of(vectors: Floats, bias: Floats, device: str, candidates: int, **options: Any) -> GpuSearch:
    """A search that scans, however few items there are."""
    index = ItemIndex.of(vectors, bias)
    return GpuSearch(
        index, candidates=candidates, device=torch.device(device), **{"small": 0, "fused": False, **options}
    )


def found_by(search: GpuSearch, queries: Floats, seen: NDArray[np.int32]) -> tuple[Any, Any, Any]:
    """What it finds: the rows it is not certain of, exactly."""
    device = search.vectors.device
    asked = torch.from_numpy(queries).to(device), torch.from_numpy(seen).to(device)
    first, again = search(*asked), search.exactly(*asked)
    items = torch.where(first.certain[:, None], first.items, again.items)
    scores = torch.where(first.certain[:, None], first.scores, again.scores)
    return items.cpu().numpy(), scores.cpu().numpy(), first.certain.cpu().numpy()


def wanted_of(
    vectors: Floats, bias: Floats, queries: Floats, seen: NDArray[np.int32], count: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The same by sorting all float64 scores, equal ones by item."""
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64) + bias
    scores[:, 0] = -np.inf
    np.put_along_axis(scores, seen.astype(np.int64), -np.inf, axis=1)
    greatest = np.maximum(scores.max(axis=1, keepdims=True), -1e300)
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is left
        logs = scores - greatest - np.log(np.exp(scores - greatest).sum(axis=1, keepdims=True))
    items = np.zeros((len(queries), count), np.int32)
    probabilities = np.full(items.shape, PADDING_SCORE)
    for row in range(len(queries)):
        order = np.argsort(-scores[row], kind="stable")
        order = order[np.isfinite(scores[row][order])][:count]
        items[row, : len(order)], probabilities[row, : len(order)] = order, logs[row][order]
    return items, probabilities


@st.composite
def whole_catalogues(draw: st.DrawFn) -> tuple[Any, ...]:
    """Vectors and queries of small whole numbers, whose scores are exact and often equal."""
    n, width = draw(st.integers(1, 300)), draw(st.integers(1, 20))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    vectors = random.integers(-2, 3, (n + 1, width)).astype(np.float32)
    # Duplicates, and zeros of either sign.
    vectors[random.integers(0, n + 1, n // 2)] = vectors[random.integers(0, n + 1)]
    vectors[vectors == 0] *= -1
    bias = random.integers(-1, 2, n + 1).astype(np.float32)
    rows = draw(st.sampled_from([1, 2, 3, 9]))
    queries = random.integers(-2, 3, (rows, width)).astype(np.float32) * draw(st.sampled_from([-0.0, 1, 64]))
    most = draw(st.sampled_from([0, 1, n // 2, n]))
    seen = np.zeros((rows, most + 2), np.int32)
    for row in range(rows):
        seen[row, :most] = random.permutation(n)[:most] + 1
        seen[row, -1] = seen[row, 0]
    return vectors, bias, queries, random.permuted(seen, axis=1), draw(st.integers(1, 40))


@pytest.mark.parametrize("scan", ["fp16", "int8"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=whole_catalogues(), tile=st.sampled_from([1, 1000, 1 << 20]))
def test_items_and_their_order_are_those_of_exact_scores_and_ties_go_by_item(
    device: str, scan: Scan, asked: tuple[Any, ...], tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, bias, queries, seen, count = asked
    monkeypatch.setattr(searching, "TILE_BYTES", tile)
    monkeypatch.setattr(searching, "GATHERED_BYTES", tile)

    items, scores, _ = found_by(search_of(vectors, bias, device, count, scan=scan), queries, seen)

    wanted, probabilities = wanted_of(vectors, bias, queries, seen, count)
    assert items.tolist() == wanted.tolist()
    # What all scores of a row are normalised by is added up from codes: the same for each of them.
    shift = np.median(scores - probabilities, axis=1, keepdims=True) if scan == "int8" else np.zeros((1, 1))
    assert np.abs(shift).max(initial=0) <= 0.05
    assert np.allclose(scores - shift, probabilities, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scan", ["fp16", "int8"])
@pytest.mark.parametrize("rows", [1, 8, 64])
@pytest.mark.parametrize("length", [1e-3, 1.0, 100.0])
def test_of_trained_looking_vectors_every_list_is_certain_and_that_of_float_scores(
    device: str, scan: Scan, rows: int, length: float
) -> None:
    vectors, bias = clustered_vectors(5001, 24, 3, clusters=30), np.zeros(5001, np.float32)
    random = np.random.default_rng(rows)
    queries = (length * vectors[random.integers(1, 5001, rows)]).astype(np.float32)
    queries += random.normal(scale=0.1 * length, size=queries.shape).astype(np.float32)
    seen = random.integers(0, 5001, (rows, 40), dtype=np.int32)

    items, scores, certain = found_by(search_of(vectors, bias, device, 30, scan=scan), queries, seen)

    _, probabilities = wanted_of(vectors, bias, queries, seen, 30)
    logits = np.einsum("bkd,bd->bk", vectors[items].astype(np.float64), queries.astype(np.float64))
    assert certain.mean() > (0.99 if scan == "fp16" else 0.9)
    assert np.allclose(scores, probabilities, rtol=1e-3, atol=1e-3)
    # In order, but for what float32 sums are wrong by.
    assert (np.diff(logits, axis=1) <= 1e-5 * length * np.abs(vectors).sum(axis=1).max()).all()
    assert all(len(set(row)) == 30 for row in items.tolist())


def test_what_the_scan_cannot_tell_apart_is_not_called_certain(device: str) -> None:
    random = np.random.default_rng(0)
    vectors = (1 + 1e-6 * random.integers(-50, 50, (3001, 8))).astype(np.float32)
    queries, seen = np.ones((2, 8), np.float32), np.zeros((2, 1), np.int32)

    items, _, certain = found_by(search_of(vectors, vectors[:, 0] * 0, device, 10), queries, seen)

    assert not certain.any()
    sums = vectors.astype(np.float64).sum(axis=1)
    assert np.allclose(sums[items], np.sort(sums[1:])[:-11:-1], atol=2e-6)


def test_the_processors_search_and_the_devices_agree(device: str) -> None:
    vectors, bias = clustered_vectors(2001, 16, 1, clusters=20), np.linspace(-1, 1, 2001, dtype=np.float32)
    queries, seen = 3 * vectors[5:9], np.arange(1, 401, dtype=np.int32).reshape(4, 100)

    items, scores, _ = found_by(search_of(vectors, bias, device, 25), queries, seen)

    others, their_scores = ExactSearch(ItemIndex.of(vectors, bias), candidates=25)(queries, seen)
    assert items.tolist() == others.tolist()
    assert np.allclose(scores, their_scores, atol=2e-3)


def test_probabilities_of_all_items_sum_to_one_and_places_without_an_item_say_so(device: str) -> None:
    random = np.random.default_rng(2)
    vectors, bias = random.normal(size=(41, 8)).astype(np.float32), np.zeros(41, np.float32)
    seen = np.stack([np.arange(10), np.zeros(10)]).astype(np.int32)

    items, scores, certain = found_by(search_of(vectors, bias, device, 50), vectors[1:3], seen)

    assert certain.all()
    assert np.exp(scores.astype(np.float64)).sum(axis=1) == pytest.approx([1, 1], abs=1e-4)
    assert (items == 0).sum(axis=1).tolist() == [50 - 31, 50 - 40]
    assert (scores[items == 0] == PADDING_SCORE).all()


def test_a_rows_list_does_not_depend_on_the_others(device: str) -> None:
    vectors, bias = clustered_vectors(3001, 16, 1, clusters=20), np.zeros(3001, np.float32)
    search, seen = search_of(vectors, bias, device, 20), np.zeros((64, 3), np.int32)

    together, _, _ = found_by(search, 5 * vectors[1:65], seen)

    alone = [found_by(search, 5 * vectors[row : row + 1], seen[:1])[0][0] for row in range(1, 65)]
    assert together.tolist() == [row.tolist() for row in alone]


def test_vectors_beyond_half_precision_are_refused_by_it_and_scanned_as_codes() -> None:
    vectors = np.full((100, 4), 1e5, np.float32)
    with pytest.raises(ValueError, match="beyond float16's 65504; scan them as int8"):
        search_of(vectors, vectors[:, 0], "cpu", 5)

    search = search_of(vectors, np.arange(100, dtype=np.float32), "cpu", 5, scan="int8")
    items, _, _ = found_by(search, np.full((1, 4), 1e-5, np.float32), np.zeros((1, 1), np.int32))
    assert items.tolist() == [[99, 98, 97, 96, 95]]


def test_an_unknown_scan_is_refused() -> None:
    vectors = np.ones((4, 4), np.float32)
    with pytest.raises(ValueError, match="scan is 'fp8'; allowed are fp16 and int8"):
        search_of(vectors, vectors[:, 0], "cpu", 2, scan="fp8")


@given(
    scores=st.lists(st.floats(-(2**99), 2**99, width=32, allow_subnormal=False), min_size=1, max_size=20),
    first=st.integers(0, 2**31 - 30),
)
def test_keys_are_ordered_like_scores_then_items_and_can_be_read_back(
    scores: list[float], first: int
) -> None:
    items = torch.arange(first, first + len(scores))
    keys = to_keys(torch.tensor(scores), items)

    order = keys.argsort(descending=True).tolist()

    assert order == sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    read, read_items = from_keys(keys)
    assert read.tolist() == scores
    assert read_items.tolist() == items.tolist()
