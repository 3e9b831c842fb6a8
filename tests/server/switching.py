"""A build with two releases on a server that switches between them, callers, and what can go wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from tritonrec_client import Client, Page, RecommendError, Retry
from tritonrec_client.contract import (
    FEEDBACK,
    PIPELINE,
    RECOMMEND,
    RETRIEVE_AND_RANK,
    STAGES,
    release_to_wire,
)

from python_backend.release import MANIFEST, Release
from tools.releases.golden import GOLDEN
from tools.releases.manifest import folder_hashes, read_manifest, write_manifest
from tools.serving.activation import Control
from tools.serving.history import read_activations
from tools.serving.model_control import ModelControl
from tools.serving.served import ServedRepository, open_release, runs_the_same
from tools.serving.server import TritonServer

WRITERS = {model.name for model in FEEDBACK}

KILLED = """
import os, signal, sys, threading
from contextlib import contextmanager
from pathlib import Path
from tools.serving.activation import Control
from tools.serving.served import open_release

build, address, release, step, seconds = sys.argv[1:]

@contextmanager
def show(name):
    if name == step:
        if float(seconds):
            threading.Timer(float(seconds), os.kill, (os.getpid(), signal.SIGKILL)).start()
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    yield

with Control(Path(build), address, show=show) as control:
    control.activate(open_release(Path(build), release))
"""


@dataclass
class Site:
    """A build folder with releases, the first of which is served when it starts."""

    build: Path
    names: list[str]
    triton: TritonServer

    @property
    def served(self) -> ServedRepository:
        return ServedRepository(self.build / "served")

    @property
    def active(self) -> str:
        assert self.served.active is not None
        return self.served.active

    @property
    def other(self) -> str:
        """The one of the two sound releases that is not active."""
        return next(name for name in self.names if name != self.active)

    def release(self, name: str) -> Release:
        return open_release(self.build, name)

    def control(self, say: Callable[[str], None] = lambda text: None) -> Control:
        return Control(self.build, self.triton.address, say=say)

    def activate_and_be_killed(self, release: str, step: str, seconds: float = 0.0) -> int:
        """Activate in a process that kills itself at `step`, or `seconds` into it; its exit status."""
        arguments = [str(self.build), self.triton.address, release, step, str(seconds)]
        command = [sys.executable, "-c", KILLED, *arguments]
        return subprocess.run(command, capture_output=True, timeout=100, check=False).returncode

    def break_release(self, name: str, change: Callable[[Path], object], *, rehash: bool = True) -> Release:
        """A release called `name`, like the one that is not active but for `change`."""
        folder = copy_release(self.release(self.other).path, self.build, name)
        change(folder)
        if rehash:
            write_manifest(folder, read_manifest(folder) | {"files": folder_hashes(folder)})
        return Release.open(folder)

    def assert_serves(self, release: str, arms: dict[str, str] | None = None) -> None:
        """Disk, server and history agree that `release` is active, and nothing else is left anywhere."""
        releases = {release, *(arms or {}).values()}
        wanted = {f"{model.name}_{name}" for model in (PIPELINE, RECOMMEND) for name in releases}
        wanted |= {RECOMMEND.name, *WRITERS, *(f"{RECOMMEND.name}_{arm}" for arm in arms or {})}
        stages = {f"{stage.name}_{name}" for stage in (*STAGES, RETRIEVE_AND_RANK) for name in releases}
        assert {path.name for path in self.served.folder.iterdir() if path.is_dir()} == wanted | stages
        assert not list(self.build.glob(".served.*"))
        with ModelControl(self.triton.address) as control:
            assert {name for name, state in control.states().items() if state == "READY"} == wanted
            assert control.releases_answering(RECOMMEND.name) == {release}
            for arm, name in (arms or {}).items():
                assert control.releases_answering(f"{RECOMMEND.name}_{arm}") == {name}
        assert self.served.active == release
        assert self.served.arms == (arms or {})
        for model, folder in self.served.standalone.items():
            assert runs_the_same(model, folder, self.release(release))
        assert read_activations(self.build)[-1].release == release


def copy_release(source: Path, build: Path, name: str) -> Path:
    """A release called `name` in `build` that is otherwise like the one in `source`; its folder."""
    folder = build / "releases" / name
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(source, folder)
    write_manifest(folder, json.loads((folder / MANIFEST).read_text()) | {"release": name})
    with np.load(folder / GOLDEN) as arrays:
        golden = dict(arrays)
    for key, array in golden.items():
        if key.endswith("_release"):
            array[:] = release_to_wire(name)
    np.savez_compressed(folder / GOLDEN, **golden)
    write_manifest(folder, read_manifest(folder) | {"files": folder_hashes(folder)})
    return folder


@dataclass
class Callers:
    """Callers who ask for page after page, for the length of a with block."""

    address: str
    users: list[int]
    pages: list[Page] = field(default_factory=list)
    errors: list[RecommendError] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._by_caller: dict[int, list[Page]] = {user: [] for user in self.users}
        self._threads = [threading.Thread(target=self._call, args=(user,)) for user in self.users]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def assert_undisturbed(self) -> None:
        """No caller got an error, and no page was made by two releases."""
        assert self.errors == []
        assert len(self.pages) > 10
        assert all(page.is_consistent for page in self.pages)

    @property
    def releases(self) -> list[str]:
        """The releases of a caller's pages in their order, each once while it stays the same.

        Those of the caller who saw most of them; the others may have begun later, but saw the same.
        """
        longest: list[str] = max((_changes(pages) for pages in self._by_caller.values()), key=len)
        for pages in self._by_caller.values():
            seen = _changes(pages)
            assert seen == longest[len(longest) - len(seen) :]
        return longest

    def _call(self, user: int) -> None:
        with Client(self.address, timeout=20.0, retry=Retry(attempts=1)) as client:
            while not self._stop.is_set():
                try:
                    page = client.recommend(user)
                    self.pages.append(page)
                    # Of two callers, the slower one may get an older answer later.
                    self._by_caller[user].append(page)
                except RecommendError as error:
                    self.errors.append(error)
                # Enough to notice an error, little enough not to slow everything else down.
                time.sleep(0.01)


def _changes(pages: list[Page]) -> list[str]:
    names = [page.release for page in list(pages)]
    return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]
