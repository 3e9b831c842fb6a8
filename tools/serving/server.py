"""A Triton server as a context manager: started, ready when it answers, stopped without a trace."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException, triton_to_np_dtype
from tritonrec_client.contract import ANONYMOUS, PADDING_ID, RECOMMEND, SESSION_ITEMS, USER_ID

from tools.serving.metrics import StageTime, read_stage_times
from tools.serving.model_files import CONFIG
from tools.serving.repository import entry_models
from tools.serving.wheel import ServerUnavailableError, TritonWheel

SHARED_MEMORY = Path("/dev/shm")
EXIT_TIMEOUT = 10.0
"""Seconds that requests in flight get when the server stops."""
STOPPING = 5.0
"""Seconds that its stages get after that."""
LOCAL, STAGED, GPU, GPU_TORCH = "local", "staged", "gpu", "gpu_torch"
"""Profiles: one model for all stages; one for each; the same, with TensorRT's plans for two of them; one for
those that a GPU computes in PyTorch (see model_repository/recommend)."""
COLLECTED_WITHIN = 3.0
"""Seconds after which a stage's process that ended and was not collected has died, and was not unloaded."""

Check = Callable[[Any], object]
"""Asks the server something through a gRPC client; raises InferenceServerException until it is ready."""


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports of one server."""

    grpc: int
    http: int
    metrics: int

    @classmethod
    def free(cls) -> Ports:
        """Three ports that nobody listens on at this moment."""
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            return cls(*(each.getsockname()[1] for each in sockets))

    def require_free(self, host: str) -> None:
        """Raise ServerUnavailableError where somebody listens on one of the ports already."""
        for field in fields(self):
            port = getattr(self, field.name)
            with socket.socket() as each:
                # As servers do: what is left of closed connections does not count.
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    each.bind((host, port))
                except OSError as error:
                    reason = os.strerror(error.errno or 0)
                    raise ServerUnavailableError(f"{field.name} port {host}:{port}: {reason}") from error


@dataclass(frozen=True, slots=True)
class Statistics:
    """What Triton counted for one model since it was loaded, its warm-up included: compare two looks.

    `requests` succeeded in `executions` batches; `queue_ms` and `compute_ms` are sums over the requests, each
    of which counts its whole batch's time.
    """

    requests: int
    executions: int
    queue_ms: float
    compute_ms: float

    def __sub__(self, earlier: Statistics) -> Statistics:
        """What happened between two looks."""
        return Statistics(
            self.requests - earlier.requests,
            self.executions - earlier.executions,
            self.queue_ms - earlier.queue_ms,
            self.compute_ms - earlier.compute_ms,
        )


class TritonServer:
    """A Triton server of the models in `repository`, for the length of a with block.

    It listens on 127.0.0.1 unless `host` says otherwise, on free `ports` unless some are given, and writes to
    the file `log`, or where it is None to this process's own output. `models` names what to load; by default
    what callers ask for and what that consists of in `profile`. It is ready when `check` passes: by default
    an anonymous request to `recommend` where the repository has that model, because neither readiness
    endpoint looks at an ensemble's steps. `arguments` are Triton's own, on top, and `channel` tritonclient's,
    for a server that encrypts. Requests in flight get `exit_timeout` seconds when it stops.

    Starting raises ServerUnavailableError when the server dies or is not ready after `timeout` seconds, with
    the lines of its log that say why.
    """

    def __init__(
        self,
        repository: Path,
        *,
        log: Path | None,
        backends: Path,
        models: Sequence[str] | None = None,
        profile: str = LOCAL,
        ports: Ports | None = None,
        host: str = "127.0.0.1",
        check: Check | None = None,
        timeout: float = 120.0,
        arguments: Sequence[str] = (),
        channel: Mapping[str, Any] | None = None,
        exit_timeout: float = EXIT_TIMEOUT,
    ) -> None:
        self.repository = repository
        self.ports = ports or Ports.free()
        self.host = host
        self.log = log
        self._backends = backends
        self._models = models
        self._profile = profile
        self._check = check
        if check is None and (repository / RECOMMEND.name / CONFIG).is_file():
            self._check = ask_anonymously
        self._timeout = timeout
        self._more_arguments = tuple(arguments)
        self._channel = dict(channel or {})
        self._exit_timeout = exit_timeout
        self._shared_memory = f"tritonrec_{os.getpid()}_{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where gRPC clients on this machine reach the server."""
        return f"{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.ports.grpc}"

    @property
    def shared_memory(self) -> str:
        """What the names of its files in `SHARED_MEMORY` begin with."""
        return self._shared_memory

    @property
    def pid(self) -> int:
        """The server's process id. RuntimeError where it was not started."""
        return self._running().pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it is ready; on failure nothing is left running."""
        self.ports.require_free(self.host)
        wheel = TritonWheel.find()
        wheel.check_libraries()
        backends = wheel.prepare_backends(self._backends)
        environment = wheel.environment()
        for library in ("OMP", "OPENBLAS", "MKL"):
            # Where the stub imports numpy, before a model's own `threads` parameter is known.
            environment.setdefault(f"{library}_NUM_THREADS", "1")
        with self._open_log() as log:
            self._process = subprocess.Popen(
                [str(wheel.server), *self._arguments(backends)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C in a terminal reaches us alone, and we stop the server in order.
                start_new_session=True,
            )
        self._watchdog = _watch(self._process, self._shared_memory, self._exit_timeout)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let requests in flight finish, then end the server and its stages; kill them if they do not."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self._exit_timeout + STOPPING)
        # Stages outlive a server that was killed; the group is ours alone.
        _end_group(process)
        for leftover in SHARED_MEMORY.glob(f"{self._shared_memory}*"):
            leftover.unlink(missing_ok=True)
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()

    def wait(self) -> str:
        """Block until the server no longer serves as it should; the reason, in words.

        That is when it ends, or when the process of a stage died: Triton does not start that again, says that
        it is ready, and fails every request which meets it.
        """
        process = self._running()
        since: dict[int, float] = {}
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return f"Triton ended with exit code {process.wait(1.0)}"
            now = time.monotonic()
            since = {pid: since.get(pid, now) for pid in self.dead_stages()}
            if dead := [pid for pid, first in since.items() if now - first >= COLLECTED_WITHIN]:
                return f"{len(dead)} of the stages' processes died"

    def dead_stages(self) -> list[int]:
        """The process ids of stages that ended and were not collected by Triton (yet).

        It does collect the process of a model that is unloaded, soon after that has ended.
        """
        server = str(self.pid)
        dead = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # pid (program) state parent …; the program's name may hold spaces
                state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state == "Z" and parent == server:
                    dead.append(int(path.parent.name))
        return dead

    def client(self) -> Any:
        """A new gRPC client of this server, for the caller to close."""
        return grpcclient.InferenceServerClient(self.address, **self._channel)

    def statistics(self) -> dict[str, Statistics]:
        """What Triton counted since each model was loaded, by model name."""
        with self.client() as client:
            models = client.get_inference_statistics().model_stats
        return {
            model.name: Statistics(
                requests=model.inference_stats.success.count,
                executions=model.execution_count,
                queue_ms=model.inference_stats.queue.ns / 1e6,
                compute_ms=sum(
                    part.ns
                    for part in (
                        model.inference_stats.compute_input,
                        model.inference_stats.compute_infer,
                        model.inference_stats.compute_output,
                    )
                )
                / 1e6,
            )
            for model in models
        }

    def stage_times(self) -> dict[str, StageTime]:
        """The times of each stage since its models were loaded, up to a second old."""
        return read_stage_times(f"{self.address.rpartition(':')[0]}:{self.ports.metrics}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    def _arguments(self, backends: Path) -> list[str]:
        return [
            f"--model-repository={self.repository}",
            f"--backend-directory={backends}",
            # Explicit: what is served changes when somebody asks for it, never because a file changed.
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in self._models or entry_models(self.repository)),
            *([f"--model-config-name={self._profile}"] if self._profile != LOCAL else []),
            # Configurations are complete; guessing would start every stage twice.
            "--disable-auto-complete-config",
            "--exit-on-error=true",
            f"--exit-timeout-secs={self._exit_timeout:.0f}",
            f"--grpc-address={self.host}",
            f"--grpc-port={self.ports.grpc}",
            f"--http-address={self.host}",
            f"--http-port={self.ports.http}",
            f"--metrics-address={self.host}",
            f"--metrics-port={self.ports.metrics}",
            "--allow-gpu-metrics=false",
            # Its own names in /dev/shm: several servers run side by side and each cleans up after itself.
            f"--backend-config=python,shm-region-prefix-name={self._shared_memory}",
            *self._more_arguments,
        ]

    def _open_log(self) -> contextlib.AbstractContextManager[IO[bytes] | None]:
        if self.log is None:
            return contextlib.nullcontext()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        return self.log.open("wb")

    def _wait_until_ready(self) -> None:
        process = self._running()
        deadline = time.monotonic() + self._timeout
        last: object = "it does not answer"
        with self.client() as client:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise ServerUnavailableError(f"Triton ended at start:\n{telling_lines(self.log)}")
                try:
                    if client.is_server_ready(client_timeout=1.0):
                        if self._check:
                            self._check(client)
                        return
                except InferenceServerException as error:
                    last = error.message()
                time.sleep(0.05)
        raise ServerUnavailableError(
            f"Triton was not ready after {self._timeout:.0f} s ({last}):\n{telling_lines(self.log)}"
        )


def ask_anonymously(client: Any, model: str = RECOMMEND.name) -> Any:
    """One request by nobody in particular to `model`, with a deadline of 5 s; its result.

    Raises InferenceServerException where it is not answered.
    """
    metadata = client.get_model_metadata(model, client_timeout=5.0)
    inputs = []
    for tensor in metadata.inputs:
        fill = {USER_ID.name: ANONYMOUS, SESSION_ITEMS.name: PADDING_ID}.get(tensor.name, 0)
        array = np.full((1, tensor.shape[-1]), fill, dtype=triton_to_np_dtype(tensor.datatype))
        request = grpcclient.InferInput(tensor.name, array.shape, tensor.datatype)
        request.set_data_from_numpy(array)
        inputs.append(request)
    return client.infer(model, inputs, client_timeout=5.0)


def telling_lines(log: Path | None, limit: int = 15) -> str:
    """The first lines of a server's log that say what went wrong, each once."""
    if log is None:
        return "its log is above"
    text = log.read_text(encoding="utf-8", errors="replace")
    # Triton's own lines look like `E1122 13:16:04.693099 8988 main.cc:257] "…"`; others come from the linker
    # or from Python. Without a GPU it complains about CUDA and works.
    errors = re.findall(
        r"^E\d{4} [^\]]*\] (.*)|^(?![IWEV]\d{4} )(.*error.*)", text, re.MULTILINE | re.IGNORECASE
    )
    messages = dict.fromkeys(ours or theirs for ours, theirs in errors)
    telling = [
        message.strip('"') for message in messages if not re.search("CUDA|unable to create stream", message)
    ]
    lines = "\n".join(telling).replace("\\n", "\n").splitlines()
    return "\n".join([line for line in lines if line][:limit])


def _watch(server: subprocess.Popen[bytes], shared_memory: str, patience: float) -> subprocess.Popen[bytes]:
    """A process that ends `server` when we cannot, because we were killed or ran out of memory.

    The pipe to it closes with us, however we end.
    """
    script = 'read -r _; kill -TERM -"$1"; sleep "$2"; kill -KILL -"$1"; rm -f "$3"*'
    values = [str(server.pid), f"{patience + STOPPING:.0f}", str(SHARED_MEMORY / shared_memory)]
    return subprocess.Popen(
        ["sh", "-c", script, "sh", *values],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process's group, and wait until it is gone."""
    deadline = time.monotonic() + 5.0
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, signal.SIGKILL)
            process.poll()
            time.sleep(0.02)
    process.wait()
