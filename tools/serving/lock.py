"""One at a time: a lock on a served repository, which ends with the process that holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOOK_AGAIN = 0.1
"""Seconds between two tries to get the lock."""


class Busy(RuntimeError):
    """Somebody else changes the served repository; the message says who."""


@contextlib.contextmanager
def exclusively(
    folder: Path, *, wait: float = 0.0, say: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Hold the lock of the served repository `folder`, a file beside it, for the length of a with block.

    Where somebody else holds it, `say` is told so once, and after `wait` seconds Busy is raised. The lock is
    the kernel's: it ends with this process, however that ends.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{folder.name}.lock")
    with path.open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + wait
        told = False
        while not _taken(file.fileno()):
            file.seek(0)
            holder = f"process {file.read().strip() or 'unknown'} is changing {folder}"
            if time.monotonic() >= deadline:
                raise Busy(f"{holder}; waited {wait:.0f} s for it to end")
            if not told:
                say(f"{holder}; waiting for it to end")
                told = True
            time.sleep(LOOK_AGAIN)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
