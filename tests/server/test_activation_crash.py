"""The whole server is killed while a release is being activated, and `serve.py` starts it again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from switching import Callers, Site, copy_release
from tiny import Build
from tritonrec_client.contract import RECOMMEND

from tools import serve
from tools.serving.activation import ActivationRefused
from tools.serving.server import Ports, TritonServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

FIRST, SECOND = "f1f1f1f1f1f1", "5e5e5e5e5e5e"


@contextlib.contextmanager
def serving(site: Site, store: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`serve.py` in a process of its own, ready; ended with the with block if it still runs."""
    ports = site.triton.ports
    command = [sys.executable, serve.__file__, "--build", str(site.build), "--store", store, *words]
    command += ["--grpc-port", str(ports.grpc), "--http-port", str(ports.http)]
    command += ["--metrics-port", str(ports.metrics)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        assert any(line.startswith("stop it") for line in process.stdout), process.communicate()[1]
        yield process
    finally:
        process.terminate()
        process.communicate()


def server_of(launcher: int) -> int:
    """The process id of the Triton that the process `launcher` started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return next(int(pid) for pid in children if "tritonserver" in Path(f"/proc/{pid}/comm").read_text())


def kill_while_loading(site: Site, server: int) -> None:
    """Kill the process group `server` as soon as the second release's ensemble is there to be loaded."""
    ensemble = site.served.folder / f"{RECOMMEND.name}_{SECOND}"
    while not ensemble.exists():
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(server, signal.SIGKILL)


@pytest.fixture
def site(tiny_build: Build, tmp_path: Path) -> Site:
    """Two releases, and where a server of them is to listen."""
    for name in (FIRST, SECOND):
        copy_release(tiny_build.release.path, tmp_path, name)
    triton = TritonServer(
        tmp_path / "served", log=tmp_path / "unused.log", backends=tmp_path, ports=Ports.free()
    )
    return Site(tmp_path, [FIRST, SECOND], triton)


@pytest.mark.parametrize("step", ["load", "golden", "feedback", "switch", "drain", "unload"])
def test_after_a_crash_serve_starts_what_is_active_and_nothing_else(
    site: Site, tiny_build: Build, step: str
) -> None:
    store = tiny_build.config.store.url
    with serving(site, store, "--release", FIRST) as launcher:
        # The activation first, so that it cannot tidy up; then the server, in the middle of it.
        assert site.activate_and_be_killed(SECOND, step, 0.3 if step == "load" else 0.0) == -signal.SIGKILL
        os.killpg(server_of(launcher.pid), signal.SIGKILL)
        assert launcher.wait(30) == serve.SERVER_TROUBLE

    with serving(site, store), Callers(site.triton.address, tiny_build.known_users[:2]) as callers:
        active = SECOND if step in {"switch", "drain", "unload"} else FIRST
        site.assert_serves(active)
        with site.control() as control:
            control.activate(site.release(site.other))
        site.assert_serves(FIRST if active == SECOND else SECOND)
    callers.assert_undisturbed()


def test_serve_does_not_take_unloaded_stages_for_dead_ones(site: Site, tiny_build: Build) -> None:
    """A process that was told to end is there for a moment before Triton collects it."""
    with serving(site, tiny_build.config.store.url, "--release", FIRST) as launcher:
        for _ in range(6):
            with site.control() as control:
                control.activate(site.release(site.other))
            assert launcher.poll() is None


def test_an_activation_whose_server_dies_says_so_and_the_next_start_serves_the_old_release(
    site: Site, tiny_build: Build
) -> None:
    store = tiny_build.config.store.url
    with serving(site, store, "--release", FIRST) as launcher:
        server = server_of(launcher.pid)
        with site.control() as control:
            threading.Thread(target=kill_while_loading, args=(site, server)).start()
            with pytest.raises(ActivationRefused, match=r"^load: "):
                control.activate(site.release(SECOND))

    with serving(site, store):
        site.assert_serves(FIRST)
