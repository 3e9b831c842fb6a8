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

from python_backend.exact_search import ExactSearch
from python_backend.item_index import BLOCK, PADDING_SCORE, ItemIndex
from tools.synthetic.vectors import clustered_vectors

WIDTH, K = 16, 50
Floats = NDArray[np.float32]
Asked = tuple[Floats, NDArray[np.int32]]


def catalogue(items: int, width: int = WIDTH, seed: int = 0) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    vectors = clustered_vectors(items + 1, width, seed, clusters=20)
    return vectors, random.normal(scale=0.3, size=items + 1).astype(np.float32)


def questions(vectors: Floats, rows: int, seen: int = 30, seed: int = 1) -> Asked:
    """Queries near some items, and random items that they must not find, unsorted among unused places."""
    random = np.random.default_rng(seed)
    queries = 6 * vectors[random.integers(1, len(vectors), rows)] + random.normal(
        size=(rows, vectors.shape[1])
    )
    left_out = np.zeros((rows, 2 * seen), np.int32)
    left_out[:, :seen] = random.integers(1, len(vectors), (rows, seen))
    return queries.astype(np.float32), random.permuted(left_out, axis=1)


def float_search(vectors: Floats, bias: Floats, asked: Asked) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Every item by its float score, best first, and log probabilities; -inf where it may not be found."""
    queries, seen = asked
    scores = np.einsum("nd,bd->bn", vectors, queries) + bias
    scores[:, 0] = -np.inf
    np.put_along_axis(scores, seen.astype(np.int64), -np.inf, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    greatest = scores.max(axis=1, keepdims=True)
    sums = np.exp((scores - greatest).astype(np.float64)).sum(axis=1, keepdims=True)
    return order, np.take_along_axis(scores - greatest - np.log(sums), order, axis=1)


def search_of(vectors: Floats, bias: Floats, **options: Any) -> ExactSearch:
    return ExactSearch(ItemIndex.of(vectors, bias), **{"candidates": K, **options})


def assert_log_probabilities(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Scores are those of the float search; their normaliser, one for a row, is wrong by 0.002 at most."""
    if len(found):
        assert np.ptp(found - wanted) < 1e-4
        assert np.abs(found - wanted).max() < 2e-3


@pytest.mark.parametrize("items", [1, 30, K, BLOCK - 1, BLOCK, 255, 1682, 20_000])
@pytest.mark.parametrize("rows", [1, 5])
def test_the_list_is_that_of_the_float_search(items: int, rows: int) -> None:
    vectors, bias = catalogue(items)
    asked = questions(vectors, rows, seen=min(30, items // 2))
    found, scores = search_of(vectors, bias)(*asked)
    wanted, log_probabilities = float_search(vectors, bias, asked)
    assert found.dtype == np.int32
    assert scores.dtype == np.float32
    assert found.shape == scores.shape == (rows, K)
    for row in range(rows):
        count = min(K, int(np.isfinite(log_probabilities[row]).sum()))
        assert found[row, :count].tolist() == wanted[row, :count].tolist()
        assert_log_probabilities(scores[row, :count], log_probabilities[row, :count])
        assert not found[row, count:].any()
        assert (scores[row, count:] == PADDING_SCORE).all()


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.integers(1, 400), st.sampled_from([4, 15, 33]))
def test_the_list_is_exact_however_the_vectors_lie(seed: int, size: float, items: int, width: int) -> None:
    """Vectors of unequal length in few directions, and scores of any size."""
    random = np.random.default_rng(seed)
    lengths = random.lognormal(sigma=1.5, size=(items + 1, 1))
    vectors = (lengths * random.choice([-1, 0, 1, 3], (items + 1, width)) * size).astype(np.float32)
    bias = random.normal(size=items + 1).astype(np.float32)
    queries = random.normal(size=(2, width)).astype(np.float32)
    asked = (queries, np.zeros((2, 1), np.int32))
    found, _ = search_of(vectors, bias, candidates=10)(*asked)
    wanted, _ = float_search(vectors, bias, asked)
    scores = np.einsum("nd,bd->bn", vectors, queries) + bias
    count = min(10, items)
    # Equal up to rounding: another order of adding up may swap neighbours.
    found_scores = np.take_along_axis(scores, found.astype(np.int64), axis=1)[:, :count]
    wanted_scores = np.take_along_axis(scores, wanted, axis=1)[:, :count]
    assert np.allclose(found_scores, wanted_scores, rtol=1e-4, atol=1e-4 * size * float(lengths.max()))


def test_vectors_that_8_bits_cannot_tell_apart_are_told_apart() -> None:
    """The 8-bit codes of all items are the same; only their float vectors say who is best."""
    random = np.random.default_rng(3)
    vectors = (1 + random.normal(scale=1e-4, size=(3000, WIDTH))).astype(np.float32)
    index = ItemIndex.of(vectors, np.zeros(3000, np.float32))
    assert len(np.unique(index.codes[:3000], axis=0)) == 1
    asked = np.ones((1, WIDTH), np.float32), np.zeros((1, 1), np.int32)
    found, _ = ExactSearch(index, candidates=10)(*asked)
    wanted, _ = float_search(vectors, np.zeros(3000, np.float32), asked)
    assert found[0].tolist() == wanted[0, :10].tolist()


def test_items_that_are_alike_come_in_the_order_of_their_indices() -> None:
    vectors = np.ones((500, WIDTH), np.float32)
    asked = np.ones((1, WIDTH), np.float32), np.array([[3, 0, 1, 300]], np.int32)
    found, scores = search_of(vectors, np.zeros(500, np.float32), candidates=5)(*asked)
    assert found[0].tolist() == [2, 4, 5, 6, 7]
    assert scores[0] == pytest.approx([-np.log(496)] * 5, abs=1e-5)


def test_the_same_vector_has_the_same_score_at_every_place() -> None:
    random = np.random.default_rng(5)
    vectors, bias = catalogue(4000)
    query = random.normal(size=(1, WIDTH)).astype(np.float32)
    copies = np.sort(random.choice(np.arange(1, 4001), 40, replace=False))
    vectors[copies] = 9 * query / np.linalg.norm(query)
    bias[copies] = 0.1
    found, scores = search_of(vectors, bias)(query, np.zeros((1, 1), np.int32))
    assert found[0, :40].tolist() == copies.tolist()
    assert len(set(scores[0, :40].tolist())) == 1


@pytest.mark.parametrize("order", ["ascending", "descending", "equal", "random"])
def test_the_list_does_not_depend_on_the_order_in_which_good_items_come(order: str) -> None:
    """Looking for the K-th greatest of many values begins somewhere among them."""
    items = 30_000
    goodness = np.linspace(-4, 4, items + 1, dtype=np.float32)
    bias = {
        "ascending": goodness,
        "descending": goodness[::-1].copy(),
        "equal": np.zeros(items + 1, np.float32),
        "random": np.random.default_rng(6).permutation(goodness),
    }[order]
    vectors = np.zeros((items + 1, WIDTH), np.float32)
    asked = np.ones((1, WIDTH), np.float32), np.zeros((1, 1), np.int32)
    found, scores = search_of(vectors, bias)(*asked)
    wanted, log_probabilities = float_search(vectors, bias, asked)
    assert found[0].tolist() == wanted[0, :K].tolist()
    assert_log_probabilities(scores[0], log_probabilities[0, :K])


def test_a_row_is_answered_as_it_is_alone() -> None:
    vectors, bias = catalogue(5000)
    search, (queries, seen) = search_of(vectors, bias), questions(vectors, 9)
    found, scores = search(queries, seen)
    for row in range(9):
        alone, alone_scores = search(queries[row : row + 1], seen[row : row + 1])
        assert np.array_equal(alone[0], found[row])
        assert np.array_equal(alone_scores[0], scores[row])


def test_the_same_question_has_the_same_answer_on_any_number_of_threads() -> None:
    vectors, bias = catalogue(5000)
    asked = questions(vectors, 3)
    found, scores = search_of(vectors, bias)(*asked)
    for threads in (1, 2, 3, 100):
        again, again_scores = search_of(vectors, bias, threads=threads)(*asked)
        assert np.array_equal(found, again)
        assert np.array_equal(scores, again_scores)


@pytest.mark.parametrize("left", [2, 1, 0])
def test_what_is_seen_never_comes_back(left: int) -> None:
    vectors, bias = catalogue(100)
    seen = np.arange(left + 1, 101, dtype=np.int32)[None]
    found, scores = search_of(vectors, bias)(np.zeros((1, WIDTH), np.float32), seen)
    assert sorted(found[0, :left].tolist()) == list(range(1, left + 1))
    assert not found[0, left:].any()
    assert (scores[0, left:] == PADDING_SCORE).all()
    assert np.exp(scores[0, :left]).sum() == pytest.approx(min(left, 1), abs=1e-5)


def test_the_best_items_being_seen_leaves_exact_probabilities_of_the_others() -> None:
    """As it is in service: what a user has seen has the highest scores of all."""
    vectors, bias = catalogue(2000)
    queries, _ = questions(vectors, 1)
    best, _ = search_of(vectors, bias)(queries, np.zeros((1, 1), np.int32))
    asked = (3 * queries, best)
    found, scores = search_of(vectors, bias)(*asked)
    wanted, log_probabilities = float_search(vectors, bias, asked)
    assert found[0].tolist() == wanted[0, :K].tolist()
    assert_log_probabilities(scores[0], log_probabilities[0, :K])


def test_an_index_that_was_written_answers_as_before_and_is_not_read_into_memory(tmp_path: Path) -> None:
    vectors, bias = catalogue(700)
    index = ItemIndex.of(vectors, bias)
    index.write(tmp_path / "index")
    opened = ItemIndex.open(tmp_path / "index")
    assert isinstance(opened.codes.base, np.memmap)
    asked = questions(vectors, 2)
    for one, other in zip(
        ExactSearch(index, candidates=K)(*asked), ExactSearch(opened, candidates=K)(*asked), strict=True
    ):
        assert np.array_equal(one, other)


def test_without_numba_one_line_says_what_is_missing() -> None:
    code = (
        "import sys, numpy as np\n"
        "sys.modules['numba'] = None\n"
        "from python_backend.exact_search import ExactSearch, MissingLibrary\n"
        "from python_backend.item_index import ItemIndex\n"
        "index = ItemIndex.of(np.ones((3, 4), np.float32), np.zeros(3, np.float32))\n"
        "try:\n    ExactSearch(index, candidates=1)\n"
        "except MissingLibrary as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "searching a large catalogue needs numba, which is not installed: pip install numba\n"
    )
