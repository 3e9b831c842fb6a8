from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_graphs import write_rank, write_retrieve
from tritonrec_client.contract import Sizes

from python_backend.graph import Graph
from python_backend.release import Release
from python_backend.stages.rank import Rank
from python_backend.stages.retrieve import Retrieve

SIZES = Sizes(candidates=5, results=2, history=3, seen=4)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    (tmp_path / "artifacts").mkdir()
    write_retrieve(tmp_path / "artifacts" / "retrieve.onnx", SIZES)
    write_rank(tmp_path / "artifacts" / "rank.onnx", SIZES)
    return Release("0123456789ab", SIZES, tmp_path)


def test_a_graph_takes_and_gives_tensors_by_name(release: Release) -> None:
    graph = Graph(release.artifacts / "retrieve.onnx")
    assert graph.inputs == ("history",)
    assert graph.outputs == ("candidate", "retrieval_score")
    answer = graph({"history": np.array([[0, 0, 7], [0, 0, 0]], np.int32)})
    assert answer["candidate"].tolist() == [[1, 2, 3, 4, 5]] * 2
    assert answer["candidate"].dtype == np.int32
    assert answer["retrieval_score"].tolist() == [[0, -1, -2, -3, -4]] * 2


def test_inputs_that_a_graph_does_not_take_are_left_out(release: Release) -> None:
    """The exporter drops inputs that do not matter, such as features that a data set does not have."""
    history = np.zeros((1, 3), np.int32)
    stage = Retrieve.load(release, {})
    answer = stage({"history": history, "seen": history, "user_features": history})
    assert answer["candidate"].shape == (1, 5)


@pytest.mark.parametrize(("stage", "name"), [(Retrieve, "retrieve.onnx"), (Rank, "rank.onnx")])
def test_a_release_without_the_graph_is_refused_with_its_path(
    release: Release, stage: type[Retrieve | Rank], name: str
) -> None:
    (release.artifacts / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"artifacts/{name}: the release has no such graph"):
        stage.load(release, {})


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize(("options", "extra"), [({}, 0), ({"threads": "1"}, 0), ({"threads": "3"}, 2)])
def test_a_stage_has_as_many_threads_as_its_option_says(
    release: Release, options: dict[str, str], extra: int
) -> None:
    def count() -> int:
        return sum(1 for _ in Path("/proc/self/task").iterdir())

    Rank.load(release, {})  # what the library starts once for the whole process
    before = count()
    stage = Rank.load(release, options)
    assert count() - before == extra
    score = np.array([[0, -1, -2, -3, -4]], np.float32)
    inputs = {"candidate": np.arange(1, 6, dtype=np.int32)[None], "retrieval_score": score}
    assert stage(inputs)["rank_score"].tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("threads", ["0", "-1", "many", "1.5", ""])
def test_another_number_of_threads_is_refused_by_name(release: Release, threads: str) -> None:
    with pytest.raises(ValueError, match=f"option threads is '{threads}'; it must be a whole number of at"):
        Rank.load(release, {"threads": threads})
