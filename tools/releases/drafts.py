"""Drafts: a release while it is being built, which nothing takes for one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".building-"
RELEASE = "release"


@contextlib.contextmanager
def draft_in(folder: Path) -> Iterator[Path]:
    """The path of a draft inside `folder`, not there yet, to be renamed when it is whole.

    What is left of it goes when the block ends. A build that is killed cannot tidy up: its draft goes when
    the next one begins.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder) as temporary, _locked(Path(temporary)):
        yield Path(temporary) / RELEASE


def _remove_abandoned(folder: Path) -> None:
    # A draft of a build that has just begun may not be locked yet, but holds nothing yet either.
    for draft in folder.glob(f"{PREFIX}*/*"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), _locked(draft.parent):
            shutil.rmtree(draft.parent)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which ends with this process at the latest. Raises BlockingIOError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
