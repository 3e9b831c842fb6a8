from __future__ import annotations

import numpy as np

from python_backend.exact_search import ExactSearch
from python_backend.item_index import PADDING_SCORE, ItemIndex
from python_backend.several_queries import search_each

N_ITEMS, PLACES = 600, 40


def test_the_list_of_several_queries_is_that_of_every_items_best_score() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(N_ITEMS + 1, 8)).astype(np.float32)
    search = ExactSearch(
        ItemIndex.of(vectors, random.normal(size=N_ITEMS + 1).astype(np.float32)), candidates=PLACES
    )
    queries = random.normal(size=(20, 3, 8)).astype(np.float32)
    queries[:5, 1:] = queries[:5, :1]  # of some users all queries are the same
    seen = random.integers(0, N_ITEMS + 1, (20, 30)).astype(np.int32)

    scores = queries @ vectors.T + search.index.bias[: N_ITEMS + 1]
    for row in range(20):
        scores[row][:, np.append(seen[row], 0)] = -np.inf
    own = -np.sort(-scores, axis=2)[:, :, :PLACES]
    every = (scores - np.logaddexp.reduce(own, axis=2, keepdims=True)).max(axis=1)
    wanted = np.argsort(-every, axis=1)[:, :PLACES]

    found, found_scores = search_each(search, queries, seen)
    assert found.dtype == np.int32
    assert found_scores.dtype == np.float32
    assert np.array_equal(found, wanted)
    assert np.allclose(found_scores, np.take_along_axis(every, wanted, axis=1), atol=1e-5)


def test_places_for_which_no_query_finds_an_item_say_so() -> None:
    vectors = np.eye(6, 4, dtype=np.float32)
    search = ExactSearch(ItemIndex.of(vectors, np.zeros(6, np.float32)), candidates=4)
    queries = np.ones((2, 2, 4), np.float32)
    found, scores = search_each(search, queries, np.array([[1, 2, 3, 4], [1, 2, 3, 0]], np.int32))
    assert found.tolist() == [[5, 0, 0, 0], [4, 5, 0, 0]] or found.tolist() == [[5, 0, 0, 0], [5, 4, 0, 0]]
    assert (scores[found == 0] == PADDING_SCORE).all()
    assert (scores[found > 0] > PADDING_SCORE).all()


def test_nothing_at_all_is_left() -> None:
    search = ExactSearch(ItemIndex.of(np.eye(4, dtype=np.float32), np.zeros(4, np.float32)), candidates=2)
    found, scores = search_each(search, np.ones((1, 2, 4), np.float32), np.array([[1, 2, 3]], np.int32))
    assert found.tolist() == [[0, 0]]
    assert (scores == PADDING_SCORE).all()
