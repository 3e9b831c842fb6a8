"""The sides of the comparison: how each is started, asked, held still and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from recommender import RELEASE, STORE, THREADS
from transports import HttpCalls, Peer, TritonCalls
from tritonrec_client.contract import ANONYMOUS, PADDING_ID

from python_backend.release import Release
from tools.load.visitors import Visitors
from tools.serving.repository import write_served_repository
from tools.serving.server import TritonServer

HERE = Path(__file__).parent
OURS = "tritonrec"
DOCUMENTED, TUNED = "documented", "tuned"
START = 120.0
"""Seconds that a peer may take to start."""


class SideError(RuntimeError):
    """A side could not be started; the message says why."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all sides share, and where they may write."""

    release: Release
    store: str
    build: Path
    folder: Path
    """Logs and what the frameworks leave."""
    python: Path
    """The peers' Python."""


@dataclass(frozen=True, slots=True)
class Peered:
    """How one framework's service is launched and asked."""

    framework: str
    style: str
    command: tuple[str, ...]
    """What runs, in this folder; `{python}` is the peers' Python, `{bin}` its folder, `{port}` a free one."""
    path: str = "/recommend"
    batched: bool = False
    learns: bool = False
    """Whether an overload changes for minutes how it batches; it is started anew after a missed probe."""
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.framework}, {self.style}"


CORES = os.cpu_count() or 1
_UVICORN = ("{bin}/uvicorn", "fastapi_service:app", "--port", "{port}", "--workers", str(CORES))
_BENTO = ("{bin}/bentoml", "serve", "--host", "127.0.0.1", "--port", "{port}")

PEERS = (
    Peered("FastAPI", DOCUMENTED, _UVICORN),
    Peered(
        "FastAPI", TUNED, (*_UVICORN, "--no-access-log", "--loop", "uvloop", "--http", "httptools"), "/tuned"
    ),
    Peered("BentoML", DOCUMENTED, (*_BENTO, "bentoml_service:Documented")),
    Peered("BentoML", TUNED, (*_BENTO, "bentoml_service:Tuned"), batched=True, learns=True),
    Peered("Ray Serve", DOCUMENTED, ("{python}", "ray_service.py", DOCUMENTED, "{port}")),
    Peered(
        "Ray Serve",
        TUNED,
        ("{python}", "ray_service.py", TUNED, "{port}"),
        environment=(("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1"), ("RAY_SERVE_ENABLE_HA_PROXY", "1")),
    ),
)


class Side(ABC):
    """One service, in a with block; `transport` asks it. It is started awake."""

    name: str
    style: str
    learns: bool = False
    transport: Peer

    def __enter__(self) -> Side:
        try:
            self.transport = self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.wake()
        self.transport.close()
        self._stop()

    def restart(self) -> None:
        """Start it anew."""
        self.transport.close()
        self._stop()
        self.transport = self._start()

    def rest(self) -> None:
        """Stop all its processes where they are, so that they take nothing from the side that is measured."""
        self._tell(signal.SIGSTOP)

    def wake(self) -> None:
        """Let them go on."""
        self._tell(signal.SIGCONT)

    def wait(self, seconds: float) -> None:
        """Until it answers again: what was held still may find that its parts were silent, and restart them.

        Raises SideError after `seconds`.
        """
        try:
            wait_until(lambda: answers(self.transport), seconds)
        except TimeoutError as error:
            raise SideError(f"{self.name}: it was held still, and {error}") from None

    def processes(self) -> list[psutil.Process]:
        """The side's processes, all of them."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._pid())
            return [root, *root.children(recursive=True)]
        return []

    def cpu(self) -> float:
        """Seconds of CPU that its processes have used."""
        seconds = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                seconds += used.user + used.system
        return seconds

    def _tell(self, what: signal.Signals) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(what)

    @abstractmethod
    def _start(self) -> Peer: ...

    @abstractmethod
    def _stop(self) -> None: ...

    @abstractmethod
    def _pid(self) -> int: ...


class Ours(Side):
    """The release on Triton, local profile as shipped."""

    name, style = OURS, "as shipped"

    def __init__(self, ground: Ground) -> None:
        self._release = ground.release.name
        repository = ground.folder / "served"
        settings = {"store_url": ground.store}
        write_served_repository([ground.release.path], self._release, repository, overrides=settings)
        self._server = TritonServer(
            repository, log=ground.folder / "tritonrec.log", backends=ground.build / "backends"
        )

    def _start(self) -> Peer:
        self._server.start()
        return TritonCalls(self._server.address, self._release)

    def _stop(self) -> None:
        self._server.stop()

    def _pid(self) -> int:
        return self._server.pid


class PeerSide(Side):
    """One of PEERS, in a session of its own."""

    def __init__(self, peer: Peered, ground: Ground) -> None:
        self.name, self.style, self.learns = peer.name, peer.style, peer.learns
        self._peer = peer
        self._log = ground.folder / f"{peer.name.replace(', ', '-').replace(' ', '-').lower()}.log"
        self._port = _free_port()
        places = {"python": ground.python, "bin": ground.python.parent, "port": self._port}
        self._command = [part.format(**places) for part in peer.command]
        self._environment = _environment(ground) | dict(peer.environment)
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self) -> Peer:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=HERE,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        transport = HttpCalls(f"http://127.0.0.1:{self._port}{self._peer.path}", batched=self._peer.batched)
        try:
            wait_until(lambda: self._answers(transport), START)
        except BaseException as error:
            transport.close()
            if isinstance(error, TimeoutError):
                raise SideError(f"{self.name}: {error}; see {self._log}") from None
            raise
        return transport

    def _answers(self, transport: Peer) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            words = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise SideError(f"{self.name}: ended with {self._process.returncode}: {' '.join(words)}")
        return answers(transport)

    def _stop(self) -> None:
        if self._process is None:
            return
        ours = self.processes()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        # Whatever a framework started and left; all of it was ours.
        for process in psutil.wait_procs(ours, timeout=2)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _pid(self) -> int:
        return -1 if self._process is None else self._process.pid


def answers(transport: Peer) -> bool:
    """Whether an anonymous visitor gets a page."""
    transport.expect(Visitors(np.array([ANONYMOUS]), np.full((1, transport.session), PADDING_ID)))
    try:
        transport.page(0)
    except Exception:  # whatever it is, a service that starts gets more time
        return False
    return True


def wait_until(ready: Callable[[], bool], seconds: float) -> None:
    """Ask `ready` until it says so. Raises TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"not ready after {seconds:.0f} s")
        time.sleep(0.2)


def _environment(ground: Ground) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {
        "PATH": f"{ground.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        RELEASE: str(ground.release.path),
        STORE: ground.store,
        THREADS: "1",
        # As for Triton's stages: each process has one thread of each library.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "BENTOML_HOME": str(ground.folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port: int = each.getsockname()[1]
        return port
