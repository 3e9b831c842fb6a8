"""Process ids that no other container's processes have, for those who share an LMDB folder.

LMDB knows whoever reads by their process id (a lock on that byte of lock.mdb), so a second process with the
same one cannot even open the folder: *Resource temporarily unavailable*. Each container counts its processes
from 1, and two pods that start in the same way, one to replace the other, have the same ids.
"""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path
from typing import IO

ROOM = 1500
"""Ids that a container gets: a server's stages have theirs within its first 300, threads included."""
MOST = 16
"""Containers that may share a folder; with all their ids below 32,768, the least that systems count up to."""
CONTAINERS = "containers"


class TooManyContainers(RuntimeError):
    """No room is left: more containers than `MOST` share the folder."""


def take_room(folder: Path) -> IO[bytes]:
    """Have the processes that this one starts from now on take ids that no other container on `folder` has.

    Returns what holds the room, to be kept for as long as they live; it falls back by itself when this
    process ends. Raises TooManyContainers, and OSError where `folder` cannot be written.
    """
    (folder / CONTAINERS).mkdir(parents=True, exist_ok=True)
    for number in range(MOST):
        held = (folder / CONTAINERS / str(number)).open("wb")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            continue
        _count_up_to(number * ROOM)
        return held
    raise TooManyContainers(f"{folder}: {MOST} containers use it already")


def _count_up_to(number: int) -> None:
    """Let the next process of this container have an id above `number`; threads take ids as well."""
    for _ in range(number):
        if _next_id() > number:
            return


def _next_id() -> int:
    """The id of a thread that ends at once; ids are given in turn."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(threading.get_native_id()))
    thread.start()
    thread.join()
    return found[0]
