"""One tiny release, built by the real command line and served by a real Triton, for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tiny import Build, write_shop
from tritonrec_client.contract import Sizes

from python_backend.pipeline import Pipeline
from tools.build_repo import OK, main
from tools.data.dataset import Dataset
from tools.serving.server import TritonServer

# A busy machine is no failure, and requests to a server are slow beside pure functions.
settings.register_profile("server", deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Server:
    """A running server and what it serves."""

    triton: TritonServer
    build: Build

    @property
    def grpc_address(self) -> str:
        return self.triton.address

    @property
    def release(self) -> str:
        return self.build.release.name

    @property
    def sizes(self) -> Sizes:
        return self.build.release.sizes

    @cached_property
    def dataset(self) -> Dataset:
        return self.build.dataset

    @cached_property
    def known_users(self) -> list[int]:
        """The wire ids of users with events, the longest history first."""
        interactions = self.dataset.interactions
        order = (-interactions.lengths).argsort(kind="stable")
        return interactions.user_ids[order][interactions.lengths[order] > 0].tolist()


@pytest.fixture(scope="session")
def tiny_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """What the command line makes of the made-up shop, its store filled."""
    build = write_shop(tmp_path_factory.mktemp("shop"))
    assert main(["--config", str(build.toml)]) == OK
    return build


@pytest.fixture(scope="session")
def server(tiny_build: Build) -> Iterator[Server]:
    """The tiny release on a Triton that reads the store which its build filled."""
    with tiny_build.triton("served", store_url=tiny_build.config.store.url) as triton:
        yield Server(triton, tiny_build)


@pytest.fixture
def grpc_client(server: Server) -> Iterator[Any]:
    """tritonclient's own client, which checks nothing before it sends."""
    with server.triton.client() as client:
        yield client


@pytest.fixture(scope="session")
def pipeline(tiny_build: Build) -> Pipeline:
    """The served release's stages in this process, on the same store."""
    return Pipeline.load(tiny_build.release, {"store_url": tiny_build.config.store.url})
