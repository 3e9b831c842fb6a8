"""The same checks on the processor, everywhere, and on a GPU where there is one (`make test-gpu`)."""

from __future__ import annotations

import warnings

import pytest
import torch

from python_backend.gpu.stage import RetrieveAndRank
from python_backend.release import Release
from tools.gpu.made_up import make_up
from tools.gpu.parity import Reference

ITEMS = 40_000
"""More than `python_backend.gpu.search.SMALL`: fewer are searched in float32 alone."""


@pytest.fixture(
    scope="session",
    params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def device(request: pytest.FixtureRequest) -> str:
    """What is computed on."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU: torch.cuda.is_available() is False")
    return str(request.param)


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, str]:
    """A made-up release that the profile gpu_torch can serve, and its users' store."""
    with warnings.catch_warnings():
        # PyTorch 2.11 warns that what it has read from a program's file cannot be written to.
        warnings.simplefilter("ignore", UserWarning)
        release, url = make_up(tmp_path_factory.mktemp("made-up"), ITEMS, 100, seed=1)
    assert url is not None
    return release, url


@pytest.fixture(scope="session")
def stage(made_up: tuple[Release, str], device: str) -> RetrieveAndRank:
    """The release's stage on the device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return RetrieveAndRank.load(made_up[0], {"device": device})


@pytest.fixture(scope="session")
def reference(made_up: tuple[Release, str]) -> Reference:
    """The same on the processor, in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return Reference(made_up[0])
