"""Containers that share an LMDB folder, each of which counts its processes from 1."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from python_backend.stores import UserRecord, open_store
from tools.serving import process_ids
from tools.serving.process_ids import CONTAINERS, MOST, TooManyContainers, take_room

CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", sys.executable, "-c")
STAGE = """
import os, sys
from python_backend.stores import open_store
store = open_store(sys.argv[1])
(found,) = store.get_many([1])
print(found.items.tolist(), flush=True)
sys.stdin.read()
"""
"""What a stage does with the store, as a process that a container starts."""
LAUNCHER = f"""
import os, subprocess, sys
from pathlib import Path
from tools.serving.process_ids import take_room
assert os.getpid() == 1
room = take_room(Path(sys.argv[1])) if sys.argv[2] == "room" else None
sys.exit(subprocess.run([sys.executable, "-c", {STAGE!r}, "lmdb://" + sys.argv[1]]).returncode)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    open_store(f"lmdb://{tmp_path}").put_many({1: UserRecord(np.array([5]), np.array([0]))})
    return tmp_path


@pytest.fixture
def containers() -> Iterator[ExitStack]:
    if shutil.which("unshare") is None or subprocess.run([*CONTAINER, ""], check=False).returncode:
        pytest.skip("user and PID namespaces (unshare --user --pid) are not allowed on this machine")
    with ExitStack() as stack:
        yield stack


def start(containers: ExitStack, store: Path, room: str) -> str:
    """What the stage of one more container on `store` printed first; it keeps the store open."""
    process = subprocess.Popen(
        [*CONTAINER, LAUNCHER, str(store), room],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    containers.enter_context(process)
    assert process.stdout is not None
    line = process.stdout.readline()
    return line if line.startswith("[") else line + process.stdout.read()


def test_two_containers_that_start_in_the_same_way_read_at_the_same_time(
    store: Path, containers: ExitStack
) -> None:
    assert start(containers, store, "room") == "[5]\n"
    assert start(containers, store, "room") == "[5]\n"


def test_without_rooms_of_their_own_the_second_one_cannot_even_open_the_store(
    store: Path, containers: ExitStack
) -> None:
    assert start(containers, store, "none") == "[5]\n"
    assert "Resource temporarily unavailable" in start(containers, store, "none")


def test_a_room_is_free_again_when_its_holder_is_gone(tmp_path: Path) -> None:
    take_room(tmp_path).close()
    with take_room(tmp_path) as held:
        assert Path(held.name) == tmp_path / CONTAINERS / "0"


def test_more_containers_than_there_is_room_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_ids, "ROOM", 1)
    with ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(take_room(tmp_path))
        assert len(list((tmp_path / CONTAINERS).iterdir())) == MOST
        with pytest.raises(TooManyContainers, match="16 containers use it already"):
            take_room(tmp_path)
