"""A release with several channels and rankers, built and served by the real Triton."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tiny import Build, write_shop
from tritonrec_client import Client, Reason
from tritonrec_client.contract import FoundBy

from python_backend.pipeline import Pipeline
from python_backend.plan import Plan
from tools.build_repo import main as build_repo
from tools.evaluation.served import fetch_lists, requests_of
from tools.releases.manifest import read_manifest, verify
from tools.serving.server import STAGED, TritonServer

pytestmark = pytest.mark.server

SLOTS = """
[compress]
variant = "full"

[[channels]]
model = "transformer"
quota = 40

[[channels]]
model = "ease"
quota = 40

[[channels]]
model = "popularity"
name = "just_now"
quota = 20

[[rankers]]
model = "logistic"
epochs = 1
keep = 30

[[rankers]]
model = "main"

[[rankers]]
model = "dnn"
epochs = 1
width = 8
hidden = 8
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A shop whose release has three channels, a light ranker and two heavy ones."""
    shop = write_shop(tmp_path_factory.mktemp("slots"))
    shop.toml.write_text(shop.toml.read_text() + SLOTS)
    assert build_repo(["--config", str(shop.toml)]) == 0
    return shop


@pytest.fixture(scope="module")
def staged(build: Build) -> Iterator[TritonServer]:
    with build.triton("staged", STAGED, store_url=build.config.store.url) as server:
        yield server


def test_a_release_says_its_steps_and_holds_their_files(build: Build) -> None:
    release = build.release
    plan = Plan.of(release)
    assert [step.model for step in plan.steps] == [
        "feature_lookup",
        "retrieve_transformer",
        "retrieve_ease",
        "retrieve_just_now",
        "merge",
        "rank_logistic",
        "cut",
        "rank_main",
        "rank_dnn",
        "blend",
        "rerank",
    ]
    assert list(verify(release.path)) == []
    assert read_manifest(release.path)["checks"]["served_is_in_process"]["different_lists"] == 0
    for step in plan.steps:
        assert (release.path / "models" / step.model / "config.pbtxt").is_file()
    assert not (release.path / "models" / "retrieve_and_rank").exists()


def test_every_step_answers_in_triton_as_in_process(build: Build, staged: TritonServer) -> None:
    release = build.release
    users = np.array(build.known_users[:20])
    served = fetch_lists(staged.address, release.name, users, release.sizes, Plan.of(release))
    pipeline = Pipeline.load(release, {"store_url": build.config.store.url})
    expected = pipeline(requests_of(users, release.sizes, 0.0))
    for name, array in expected.items():
        if array.dtype.kind == "f":
            assert np.allclose(array, served.stages[name], atol=1e-4), name
        else:
            assert np.array_equal(array, served.stages[name]), name
    assert np.array_equal(served.plain["item_id"], expected["item_id"])


def test_a_page_says_which_channel_found_an_item_and_what_it_is_like(
    build: Build, staged: TritonServer
) -> None:
    user = build.known_users[0]
    row = int(np.flatnonzero(build.dataset.interactions.user_ids == user)[0])
    history = build.dataset.interactions.item_ids[build.dataset.interactions.user(row)].tolist()
    with Client(staged.address, timeout=20.0) as client:
        page = client.recommend(user)
        assert {place.channel for place in page.items} <= {
            FoundBy.TRANSFORMER,
            FoundBy.EASE,
            FoundBy.POPULARITY,
        }
        personal = [place for place in page.items if place.because is not None]
        assert personal
        assert all(place.because in history for place in personal)
        assert {"retrieve_ease", "rank_main", "cut"} <= page.releases.keys()
        assert page.is_consistent
        stranger = client.recommend(None)
    assert {place.reason for place in stranger.items} <= {Reason.POPULAR, Reason.VARIETY}
    assert all(place.because is None for place in stranger.items)


def test_both_plans_give_the_same_pages(build: Build, staged: TritonServer) -> None:
    users = build.known_users[:8]
    with Client(staged.address, timeout=20.0) as client:
        apart = [client.recommend(user) for user in users]
    with (
        build.triton("fused", store_url=build.config.store.url) as server,
        Client(server.address, timeout=20.0) as client,
    ):
        together = [client.recommend(user) for user in users]
    assert [page.items for page in together] == [page.items for page in apart]


def test_every_channel_can_be_asked_alone(build: Build, staged: TritonServer) -> None:
    with grpcclient.InferenceServerClient(staged.address) as client:
        for name, quota in (("transformer", 40), ("ease", 40), ("just_now", 20)):
            metadata = client.get_model_metadata(f"retrieve_{name}_{build.release.name}")
            shapes = {tensor.name: list(tensor.shape) for tensor in metadata.outputs}
            assert shapes["candidate"] == shapes["retrieval_score"] == [-1, quota]
