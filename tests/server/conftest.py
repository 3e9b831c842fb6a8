"""One tiny release, built by the real command line and served by a real Triton, for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from tiny import Build, Server, write_shop

from python_backend.pipeline import Pipeline
from tools.build_repo import OK, main
from tools.serving.server import STAGED

# A busy machine is no failure, and requests to a server are slow beside pure functions.
settings.register_profile(
    "server",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # Not the one that explains: it asks the server as often as all the others.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)


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


@pytest.fixture(scope="session")
def staged_server(tiny_build: Build) -> Iterator[Server]:
    """The same release with a model for each stage."""
    with tiny_build.triton("staged", STAGED, store_url=tiny_build.config.store.url) as triton:
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
