"""The profile gpu_torch on the real Triton, on the processor: the pages are those of the local profile."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from calls import Arrays, ask, ask_at_once, assert_same_pages, request_of, rows_of
from tiny import Build, Server
from tritonclient.utils import InferenceServerException
from tritonrec_client.contract import DEADLINE, RECOMMEND, RETRIEVE_AND_RANK, Status, release_from_wire

from python_backend.gpu.programs import FOLDER, RANK
from python_backend.pipeline import Pipeline
from python_backend.release import Release
from tools.data.split import leave_one_out
from tools.evaluation.served import infer
from tools.serving.repository import write_served_repository
from tools.serving.server import GPU_TORCH, TritonServer
from tools.training.checkpoint import Checkpoint
from tools.training.evidence import Neighbours
from tools.training.export import made_up_inputs
from tools.training.features import Features
from tools.training.gpu_export import export_gpu_torch, write_program
from tools.training.gpu_graphs import GpuRankGraph
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

pytestmark = pytest.mark.server

HALF = "aaaaaaaaaaaa"
"""The release whose ranker computes in half precision; the tiny one's, beside it, in float32."""


def copied(release: Release, folder: Path, name: str) -> Release:
    """`release` once more, called `name`, among the releases of `folder`."""
    path = folder / "releases" / name
    shutil.copytree(release.path, path)
    manifest = json.loads((path / "manifest.json").read_text()) | {"release": name}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return Release.open(path)


def models_of(build: Build, features: Features) -> tuple[Retriever, Ranker]:
    """The tiny release's models, from its checkpoint."""
    config, known = build.config, leave_one_out(build.dataset.interactions).train_and_validation
    checkpoint, neighbours = Checkpoint.of(build.release), Neighbours.of(known, config.rank.neighbours)
    retriever = Retriever(config.retrieve, features, config.sizes.history).eval()
    ranker = Ranker(config.rank, features, config.sizes.history, neighbours).eval()
    checkpoint.load_retriever(retriever, known.item_ids)
    checkpoint.load_ranker(ranker, known.item_ids)
    return retriever, ranker


@pytest.fixture(scope="module")
def gpu_server(tiny_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """Both releases in the profile gpu_torch; `recommend` is the one in float32."""
    folder, config = tmp_path_factory.mktemp("gpu"), tiny_build.config
    features = Checkpoint.of(tiny_build.release).features(tiny_build.dataset, config)
    retriever, ranker = models_of(tiny_build, features)
    full = copied(tiny_build.release, folder, tiny_build.release.name)
    export_gpu_torch(retriever, ranker, features, config.sizes, full.path, precision="fp32")
    half = copied(full, folder, HALF)
    inputs = made_up_inputs("rank", features, config.sizes, rows=3)
    write_program(GpuRankGraph(ranker, "fp16"), inputs, half.artifacts / FOLDER / RANK)
    overrides = {"device": "cpu", "store_url": config.store.url}
    write_served_repository([full.path, half.path], full.name, folder / "served", overrides=overrides)
    with TritonServer(
        folder / "served",
        log=folder / "triton.log",
        backends=tiny_build.output / "backends",
        models=[RECOMMEND.name, f"{RECOMMEND.name}_{HALF}"],
        profile=GPU_TORCH,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def client(gpu_server: TritonServer) -> Iterator[Any]:
    with gpu_server.client() as client:
        yield client


@pytest.fixture(scope="module")
def everyone(tiny_build: Build) -> Arrays:
    """A row for users of the data, for somebody unknown and for nobody; one in three has a session."""
    users = [*tiny_build.known_users[:61], 2**62, -1]
    request = request_of(tiny_build.release.sizes, users)
    items = tiny_build.dataset.interactions.item_ids[1:]
    random = np.random.default_rng(3)
    for row in range(0, len(users), 3):
        request["session_items"][row] = random.choice(items, tiny_build.release.sizes.session, replace=False)
    return request


def test_pages_are_those_of_the_local_profile(client: Any, pipeline: Pipeline, everyone: Arrays) -> None:
    pages = ask(client, everyone)
    assert_same_pages(pages, pipeline(everyone))
    # The comparison would be empty if the store had not been reached or nobody were known.
    assert (pages["status"] == Status.OK).mean() > 0.5
    assert (pages["status"] == Status.UNKNOWN_USER).any()
    assert (pages["status"] & Status.ANONYMOUS_USER).any()


def test_every_output_of_the_ensemble_is_there_and_of_one_release(
    client: Any, tiny_build: Build, everyone: Arrays
) -> None:
    page = ask(client, everyone)
    assert set(page) == {tensor.name for tensor in RECOMMEND.outputs}
    for name, array in page.items():
        if name.endswith("_release"):
            assert {release_from_wire(value) for value in array[:, 0].tolist()} == {tiny_build.release.name}


def test_in_half_precision_the_stage_finds_the_same_and_scores_differ_by_rounding_alone(
    client: Any, tiny_build: Build, pipeline: Pipeline, everyone: Arrays
) -> None:
    wanted = pipeline(everyone)
    found = infer(client, RETRIEVE_AND_RANK.name, HALF, wanted)
    exact = infer(client, RETRIEVE_AND_RANK.name, tiny_build.release.name, wanted)
    for answer, tolerance in ((exact, 1e-4), (found, 1e-3)):
        for name in ("retrieval_score", "rank_score"):
            near = tolerance * np.maximum(1, np.abs(wanted[name]))
            assert (np.abs(answer[name] - wanted[name]) <= near).all(), name
        # Another item stands there only where two have one score.
        other = answer["candidate"] != wanted["candidate"]
        assert other.mean() < 0.01
    assert (found["rank_score"] != exact["rank_score"]).any()


def test_a_batch_is_answered_as_each_of_its_rows_alone(client: Any, everyone: Arrays) -> None:
    together = ask(client, everyone)
    rows = len(everyone["user_id"])
    alone = ask_at_once(client, [rows_of(everyone, slice(row, row + 1)) for row in range(rows)])
    assert_same_pages(together, {name: np.concatenate([page[name] for page in alone]) for name in together})


def test_a_bad_request_is_refused_alone_while_others_are_answered(client: Any, everyone: Arrays) -> None:
    good = rows_of(everyone, slice(0, 1))
    bad = good | {"user_id": np.array([[-2]], np.int64)}
    answers = ask_at_once(client, [good, bad] * 8)
    page = ask(client, good)
    for number, answer in enumerate(answers):
        if number % 2:
            assert isinstance(answer, InferenceServerException)
            assert "user_id: found -2" in str(answer.message())
        else:
            assert not isinstance(answer, InferenceServerException)
            assert_same_pages(answer, page)


def test_what_would_come_too_late_is_refused_by_the_stage(client: Any, gpu_server: TritonServer) -> None:
    # At this very moment: whichever stage looks first refuses it.
    model = next(name for name in gpu_server.statistics() if name.startswith(RETRIEVE_AND_RANK.name))
    metadata = client.get_model_metadata(model)
    inputs = []
    for tensor in metadata.inputs:
        array = np.zeros((1, tensor.shape[-1]), np.int32)
        inputs.append(grpcclient.InferInput(tensor.name, array.shape, tensor.datatype))
        inputs[-1].set_data_from_numpy(array)
    late = {DEADLINE: int(1000 * time.time())}
    with pytest.raises(
        InferenceServerException, match=r"deadline_ms: found .* left before retrieve_and_rank"
    ):
        client.infer(model, inputs, parameters=late)
    client.infer(model, inputs, parameters={DEADLINE: int(1000 * (time.time() + 30))})


def test_the_model_is_timed_and_its_requests_share_executions(
    client: Any, gpu_server: TritonServer, tiny_build: Build, everyone: Arrays
) -> None:
    model = f"{RETRIEVE_AND_RANK.name}_{tiny_build.release.name}"
    before = gpu_server.statistics()[model]
    ask_at_once(client, [rows_of(everyone, slice(0, 1))] * 64)
    spent = gpu_server.statistics()[model] - before
    assert spent.requests == 64
    assert spent.executions < 64
    deadline = time.monotonic() + 10
    while RETRIEVE_AND_RANK.name not in gpu_server.stage_times() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gpu_server.stage_times()[RETRIEVE_AND_RANK.name].batches > 0


def test_no_other_profile_loads_the_model(server: Server, staged_server: Server) -> None:
    for each in (server, staged_server):
        assert not any(RETRIEVE_AND_RANK.name in model for model in each.triton.statistics())
