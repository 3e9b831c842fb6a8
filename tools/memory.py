"""How much memory processes take: from /proc, pages that several share counted once among them."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

PROC = Path("/proc")
SERVER = "tritonserver"
KIB = 1024
EVERY = 0.5
"""Seconds between two looks of `Peak`."""


def proportional_bytes(pid: int) -> int:
    """The proportional set size of a process: of a page that n processes share it has a part of 1/n.

    0 where the process has ended; OSError where its numbers may not be read.
    """
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * KIB for line in text.splitlines() if line.startswith("Pss:")), 0)


def descendants(pid: int) -> list[int]:
    """The process `pid` and everything that it has started and that still runs."""
    children = defaultdict(list)
    for path in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # pid (program) state parent …; the program's name may hold spaces
            parent = path.read_text(errors="replace").rpartition(")")[2].split()[1]
            children[int(parent)].append(int(path.parent.name))
    found = [pid]
    for each in found:
        found += children[each]
    return found


def model_of(pid: int) -> str | None:
    """The model that a process of Triton's Python backend runs; None for any other process.

    Its command line holds the path of the model's code: …/<model>/<version>/model.py.
    """
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    paths = (Path(word) for word in words if word.endswith("/model.py"))
    return next((path.parts[-3] for path in paths if len(path.parts) > 3), None)


def memory_of_models(server: int) -> dict[str, list[int]]:
    """Bytes (proportional set size) of every process of the Triton with the process id `server`.

    By model, one number per instance; Triton's own process is called ``tritonserver``.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for pid in descendants(server):
        if taken := proportional_bytes(pid):
            found[SERVER if pid == server else model_of(pid) or "others"].append(taken)
    return dict(sorted(found.items()))


class Peak:
    """The most memory that this process and all that it starts take during a with block; then in `bytes`.

    `this process` is the kernel's own figure (getrusage), since it began. `all processes` is the greatest sum
    of a look every half second: the kernel's figure for children is no use, since a child that is started
    without a copy of our memory inherits our peak as its own.
    """

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}
        self._most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self.bytes = {
            "this process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB,
            "all processes": self._most,
        }

    def _look(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                total = sum(proportional_bytes(pid) for pid in descendants(os.getpid()))
                self._most = max(self._most, total)
            self._over.wait(EVERY)
