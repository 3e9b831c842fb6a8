"""Shared by the tests of the tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from memory_material import crowd
from toy_release import make_release


@pytest.fixture
def new_release(tmp_path: Path) -> Callable[[str], Path]:
    """Makes releases of stages that need no model, in the build folder `tmp_path`."""
    return lambda name: make_release(tmp_path, name)


@pytest.fixture
def crowd_config(tmp_path: Path) -> Path:
    """The crowd's events as a file, and a configuration that names it."""
    events = crowd()
    rows = [
        f"{user},{item},{events.timestamps[place]}"
        for user in range(events.n_users)
        for place, item in enumerate(events.user(user).tolist(), int(events.offsets[user]))
    ]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    (tmp_path / "config.toml").write_text(
        'name = "crowd"\n[data.events]\n'
        f'path = "{tmp_path / "events.csv"}"\nuser = "user"\nitem = "item"\ntimestamp = "time"\n'
        "[contract]\ncandidates = 30\nresults = 5\nhistory = 6\nseen = 24\nuser_features = 1\n"
    )
    return tmp_path / "config.toml"
