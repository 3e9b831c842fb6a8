from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_graphs import write_query
from tritonrec_client.contract import Sizes

from python_backend.item_index import INDEX, ItemIndex
from python_backend.release import Release
from python_backend.stages.retrieve import QUERY_GRAPH, Retrieve

SIZES = Sizes(candidates=5, results=2, history=3, seen=4)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """Items 1 … 9 stand on a line at 1, 2, … 9; a query is the sum of its history."""
    vectors = np.zeros((10, 2), np.float32)
    vectors[:, 0] = np.arange(10)
    (tmp_path / "artifacts").mkdir()
    ItemIndex.of(vectors, np.zeros(10, np.float32)).write(tmp_path / "artifacts" / INDEX)
    write_query(tmp_path / "artifacts" / QUERY_GRAPH, width=2)
    return Release("0123456789ab", SIZES, tmp_path)


def test_a_release_with_an_index_is_searched_for_what_the_query_graph_says(release: Release) -> None:
    history = np.array([[0, 1, 2], [0, 0, 0]], np.int32)
    seen = np.array([[9, 7, 0, 0], [0, 0, 0, 0]], np.int32)
    stage = Retrieve.load(release, {})
    answer = stage({"history": history, "seen": seen, "user_features": np.zeros((2, 8), np.int32)})
    assert answer["candidate"].tolist() == [[8, 6, 5, 4, 3], [1, 2, 3, 4, 5]]
    scores = 3.0 * np.array([1, 2, 3, 4, 5, 6, 8])
    expected = scores - np.log(np.exp(scores).sum())
    assert answer["retrieval_score"][0] == pytest.approx(expected[::-1][:5], abs=2e-3)
    assert answer["retrieval_score"][1] == pytest.approx([-np.log(9)] * 5, abs=2e-3)
    assert {name: array.dtype for name, array in answer.items()} == {
        "candidate": np.int32,
        "retrieval_score": np.float32,
    }


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_search_has_the_threads_of_the_option(release: Release, threads: str) -> None:
    stage = Retrieve.load(release, {"threads": threads})
    zeros = np.zeros((1, 4), np.int32)
    assert stage({"history": zeros[:, :3], "seen": zeros})["candidate"].tolist() == [[1, 2, 3, 4, 5]]


def test_another_number_of_threads_is_refused_before_anything_is_read(release: Release) -> None:
    with pytest.raises(ValueError, match="option threads is '0'; it must be a whole number of at least 1"):
        Retrieve.load(release, {"threads": "0"})


def test_an_index_without_its_graph_is_refused_with_the_path(release: Release) -> None:
    (release.artifacts / QUERY_GRAPH).unlink()
    with pytest.raises(FileNotFoundError, match=rf"artifacts/{QUERY_GRAPH}: the release has no such graph"):
        Retrieve.load(release, {})
