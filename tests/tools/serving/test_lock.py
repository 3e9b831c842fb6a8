"""The lock of a served repository."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tools.serving.lock import Busy, exclusively

HOLD = """
import sys, time
from pathlib import Path
from tools.serving.lock import exclusively
with exclusively(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_who_may_not_wait_is_told_who_holds_it(tmp_path: Path) -> None:
    message = f"process {os.getpid()} is changing {tmp_path / 'served'}; waited 0 s"
    with (
        exclusively(tmp_path / "served"),
        pytest.raises(Busy, match=message),
        exclusively(tmp_path / "served"),
    ):
        raise AssertionError


def test_who_waits_is_told_once_and_comes_next(tmp_path: Path) -> None:
    said: list[str] = []
    waiting, done = threading.Event(), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waiting.set()

    def wait() -> None:
        with exclusively(tmp_path / "served", wait=20, say=say):
            done.set()

    thread = threading.Thread(target=wait)
    with exclusively(tmp_path / "served"):
        thread.start()
        assert waiting.wait(10)
        assert not done.wait(0.3)
    thread.join()

    assert done.is_set()
    assert len(said) == 1


def test_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "served")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=f"process {process.pid} is changing"):
            exclusively(tmp_path / "served").__enter__()
        process.send_signal(signal.SIGKILL)
        process.wait()

    with exclusively(tmp_path / "served"):
        pass
