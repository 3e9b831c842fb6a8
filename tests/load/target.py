"""The server under test: the one that runs at the address, else one that is started and stopped again."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.serving.server import Ports

SERVE = Path(__file__).resolve().parents[2] / "tools" / "serve.py"
PATIENCE = 180.0
"""Seconds that a server may take to start."""
LOCAL = ("127.0.0.1", "localhost", "0.0.0.0")


class NoTargetError(RuntimeError):
    """There is no server and none could be started; the message says why."""


@contextmanager
def target(options: Namespace, say: Callable[[str], None]) -> Iterator[bool]:
    """A server at the address of `options` for a with block; whether it was started for it.

    Raises NoTargetError.
    """
    host, _, port = options.address.rpartition(":")
    if not host or not port.isdecimal():
        raise NoTargetError(f"--address: found {options.address!r}; it must be HOST:PORT")
    if _listens(host, int(port)):
        yield False
        return
    if host not in LOCAL:
        raise NoTargetError(
            f"nothing listens at {options.address}, and a server is only started on this machine"
        )
    if not options.build.is_dir():
        raise NoTargetError(f"--build: there is no folder {options.build}")
    log = options.build / "load-serve.log"
    say(f"nothing listens at {options.address}: starting a server, log {log}")
    with _started(options, int(port), log):
        yield True


@contextmanager
def _started(options: Namespace, port: int, log: Path) -> Iterator[None]:
    free = Ports.free()
    options.metrics_port = free.metrics
    command = [sys.executable, str(SERVE), "--build", str(options.build), "--grpc-port", str(port)]
    command += ["--http-port", str(free.http), "--metrics-port", str(free.metrics)]
    if options.store:
        command += ["--store", options.store]
    with log.open("wb") as file:
        # A session of its own: Ctrl-C reaches us alone, and we stop it in order.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        end = time.monotonic() + PATIENCE
        while "stop it:" not in (text := log.read_text(encoding="utf-8", errors="replace")):
            if process.poll() is not None:
                raise NoTargetError(f"the server could not start:\n{text.strip()}")
            if time.monotonic() > end:
                raise NoTargetError(f"the server was not ready after {PATIENCE:.0f} s; see {log}")
            time.sleep(0.1)
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(40)
        if process.poll() is None:
            process.kill()
            process.wait()


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 2.0):
            return True
    except OSError:
        return False
