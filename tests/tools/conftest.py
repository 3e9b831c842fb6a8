"""Shared by the tests of the tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from toy_release import make_release


@pytest.fixture
def new_release(tmp_path: Path) -> Callable[[str], Path]:
    """Makes releases of stages that need no model, in the build folder `tmp_path`."""
    return lambda name: make_release(tmp_path, name)
