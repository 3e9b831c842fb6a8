from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from onnx_graphs import write_rank, write_retrieve
from tritonrec_client.contract import (
    FEEDBACK,
    MODELS,
    PIPELINE,
    RETRIEVE_AND_RANK,
    STAGES,
    Reason,
    Sizes,
    Status,
    release_tensor,
)

from python_backend.batch import BatchAnswerer
from python_backend.features import FeatureEncoder
from python_backend.pipeline import STAGE_CLASSES, Pipeline, StageFailed, load_stage
from python_backend.release import Release
from python_backend.stages.base import Arrays, InvalidRequest, Stage
from python_backend.stores import UserRecord, open_store

SIZES = Sizes(candidates=6, results=3, history=4, seen=5, session=2, user_features=1)
USER, UNKNOWN = 7, 8


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Items 101 … 106 have the indices 1 … 6; the ranker turns the retriever's 1, 2, 3, … round."""
    folder = tmp_path_factory.mktemp("release")
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"release": "0123456789ab", "sizes": SIZES.to_dict()}))
    write_retrieve(artifacts / "retrieve.onnx", SIZES)
    write_rank(artifacts / "rank.onnx", SIZES)
    np.savez(
        artifacts / "items.npz",
        wire_id=np.array([-1, *range(101, 107)], np.int64),
        lift=np.zeros(7, np.float32),
        codes=np.zeros((7, 1), np.int32),
    )
    np.save(artifacts / "item_vectors.npy", np.eye(7, dtype=np.float32))
    encoder = FeatureEncoder.fit((), [], 1).to_json()
    (artifacts / "user_features.json").write_text(encoder)
    (artifacts / "item_features.json").write_text(encoder)
    (artifacts / "rerank.json").write_text(json.dumps({"similarity_weight": 1, "lift_weight": 1}))
    return Release.open(folder)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    url = f"lmdb://{tmp_path_factory.mktemp('store')}"
    store = open_store(url)
    store.put_many({USER: UserRecord(np.array([106, 104], np.int64), np.array([1, 2]), {})})
    store.close()
    return {"store_url": url}


@pytest.fixture(scope="module")
def pipeline(release: Release, options: Mapping[str, str]) -> Pipeline:
    return Pipeline.load(release, options)


def request(user_id: int = USER, *, diversity: float = 0.0, rows: int = 1) -> dict[str, Any]:
    return {
        "user_id": np.full((rows, 1), user_id, np.int64),
        "session_items": np.full((rows, 2), -1, np.int64),
        "diversity": np.full((rows, 1), diversity, np.float32),
    }


def test_the_stages_run_in_the_contracts_order(pipeline: Pipeline) -> None:
    assert [step.model for step, _ in pipeline.steps] == [stage.name for stage in STAGES]
    named = {model.name for model in (*STAGES, PIPELINE, RETRIEVE_AND_RANK, *FEEDBACK)}
    assert set(STAGE_CLASSES) == named | {"merge", "cut", "blend"}


def test_each_stage_is_timed(pipeline: Pipeline) -> None:
    times: list[tuple[str, float]] = []
    pipeline.observe = lambda stage, seconds: times.append((stage, seconds))
    try:
        pipeline(request())
    finally:
        del pipeline.observe

    assert [stage for stage, _ in times] == [stage.name for stage in STAGES]
    assert all(seconds > 0 for _, seconds in times)


def test_a_stage_that_breaks_down_is_named(pipeline: Pipeline) -> None:
    step, rank = pipeline.steps[2]

    class Broken(type(rank)):  # type: ignore[misc]
        def __call__(self, inputs: Arrays) -> dict[str, Any]:
            raise IndexError("no such row")

    broken = Broken.__new__(Broken)
    with pytest.raises(StageFailed, match=r"rank failed \(IndexError: no such row\)"):
        Pipeline([*pipeline.steps[:2], (step, broken), pipeline.steps[3]])(request())


def test_a_page_comes_out_and_every_tensor_on_the_way(pipeline: Pipeline) -> None:
    tensors = pipeline(request())
    assert tensors["history"].tolist() == [[0, 0, 6, 4]]
    assert tensors["candidate"].tolist() == [[1, 2, 3, 4, 5, 6]]
    assert tensors["item_id"].tolist() == [[105, 103, 102]]
    assert tensors["reason"].tolist() == [[Reason.HISTORY] * 3]
    assert tensors["status"].tolist() == [[Status.OK]]
    made = {tensor.name: tensor for stage in STAGES for tensor in stage.outputs}
    for stage in STAGES:
        del made[release_tensor(stage.name).name]  # the adapter to Triton adds it
    for name, tensor in made.items():
        assert tensors[name].shape == (1, tensor.resolve(SIZES)), name


def test_an_unknown_user_gets_what_is_popular(pipeline: Pipeline) -> None:
    tensors = pipeline(request(UNKNOWN))
    assert tensors["item_id"].tolist() == [[106, 105, 104]]
    assert tensors["reason"].tolist() == [[Reason.POPULAR] * 3]
    assert tensors["status"].tolist() == [[Status.UNKNOWN_USER]]


def test_many_requests_are_answered_at_once(pipeline: Pipeline) -> None:
    assert pipeline(request(rows=4))["item_id"].tolist() == [[105, 103, 102]] * 4


def test_the_requests_own_arrays_stay_as_they_are(pipeline: Pipeline) -> None:
    inputs = request()
    pipeline(inputs)
    assert sorted(inputs) == ["diversity", "session_items", "user_id"]


class Recorded(Stage):
    """A stage that tells when it ran."""

    def __init__(self, stage: Stage, ran: list[str]) -> None:
        self.name = stage.name  # type: ignore[misc]
        self._stage, self._ran = stage, ran

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        raise NotImplementedError

    def check(self, inputs: Arrays) -> None:
        self._stage.check(inputs)

    def __call__(self, inputs: Arrays) -> dict[str, Any]:
        self._ran.append(self.name)
        return self._stage(inputs)


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        (request(-2), "user_id"),
        ({**request(), "session_items": np.array([[5, -9]])}, "session_items"),
        (request(diversity=1.5), "diversity"),
        (request(diversity=math.nan), "diversity"),
        ({name: array for name, array in request().items() if name != "diversity"}, "diversity"),
        ({}, "user_id"),
    ],
)
def test_a_bad_request_is_refused_by_name_before_any_stage_runs(
    pipeline: Pipeline, release: Release, inputs: Arrays, field: str
) -> None:
    ran: list[str] = []
    answer = BatchAnswerer(
        Pipeline([(step, Recorded(stage, ran)) for step, stage in pipeline.steps]), release
    )
    (refused,) = answer([inputs])
    assert isinstance(refused, InvalidRequest)
    assert re.match(f"^{field}: found .*; ", str(refused))
    assert refused.field == field
    assert ran == []
    (page,) = answer([request()])
    assert isinstance(page, dict)
    assert ran == [stage.name for stage in STAGES]


@pytest.mark.parametrize("name", [stage.name for stage in STAGES])
def test_a_stage_is_loaded_by_its_name(release: Release, options: Mapping[str, str], name: str) -> None:
    stage = load_stage(name, release, options)
    assert stage.name == name
    assert MODELS[name].inputs


def test_every_stage_gets_the_options(release: Release, options: Mapping[str, str], tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("blocked = [105]")
    ruled = Pipeline.load(release, {**options, "rules_file": str(rules)})
    assert ruled(request())["item_id"].tolist() == [[103, 102, 101]]
    with pytest.raises(ValueError, match="store_url is missing"):
        Pipeline.load(release, {})
