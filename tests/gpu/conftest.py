"""The same checks on the processor, everywhere, and on a GPU where there is one (`make test-gpu`)."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(
    scope="session",
    params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def device(request: pytest.FixtureRequest) -> str:
    """What is computed on."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU: torch.cuda.is_available() is False")
    return str(request.param)
