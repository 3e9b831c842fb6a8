"""Memory of processes, on this machine's own /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tools.memory import Peak, descendants, memory_of_models, model_of, proportional_bytes

MIB = 2**20


@contextmanager
def running(*arguments: str) -> Iterator[int]:
    """A child of this process that has started, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", "print('here', flush=True); input()", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.communicate(b"\n")


def test_what_a_process_takes_is_counted() -> None:
    before = proportional_bytes(os.getpid())
    taken = np.ones(64 * MIB, dtype=np.int8)
    assert proportional_bytes(os.getpid()) - before > 60 * MIB
    assert len(taken)


def test_a_process_that_has_ended_takes_nothing() -> None:
    with running() as pid:
        assert proportional_bytes(pid) > 0
    assert proportional_bytes(pid) == 0


def test_descendants_are_found_and_strangers_are_not() -> None:
    with running() as pid:
        assert pid in descendants(os.getpid())
        assert descendants(pid) == [pid]


def test_a_stage_is_named_by_the_path_of_its_code() -> None:
    code = str(Path("/served/rank_0123456789ab/1/model.py"))
    with running(code, "more") as stage, running() as other:
        assert model_of(stage) == "rank_0123456789ab"
        assert model_of(other) is None
        found = memory_of_models(os.getpid())
    assert len(found["rank_0123456789ab"]) == 1
    assert len(found["tritonserver"]) == 1
    assert found["others"]


def test_the_peak_is_kept_after_the_memory_was_given_back() -> None:
    with Peak() as peak:
        taken = np.ones(200 * MIB, dtype=np.int8)
        time.sleep(1.2)
        del taken
    assert peak.bytes["all processes"] > 200 * MIB
    assert peak.bytes["this process"] > 200 * MIB
