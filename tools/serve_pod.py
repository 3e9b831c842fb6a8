"""Serve one release in a pod: settings from the environment, the log on standard output, nothing to switch.

In a cluster a release changes by rolling pods (tools/rollout.py). A single server is for tools/serve.py.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.config.build import ConfigError
from tools.config.pod import PodSettings
from tools.config.tuning import Tuning, describe_tuning, load_tuning
from tools.plans.builder import PlanRefused
from tools.plans.capability import NoCard
from tools.plans.library import LibraryMissing
from tools.releases.folder import NoReleaseError
from tools.serving.pod import Drain, arguments_of, channel_of
from tools.serving.process_ids import TooManyContainers, take_room
from tools.serving.profiles import plans_for, require_artifacts
from tools.serving.repository import write_served_repository
from tools.serving.served import open_release
from tools.serving.server import SHARED_MEMORY, Ports, TritonServer
from tools.serving.wheel import ServerUnavailableError

OK, SERVER_TROUBLE, BAD_USAGE = 0, 1, 2
PATIENCE = 480.0
"""Seconds until the server must be ready: what the pod's startup probe grants."""

LMDB = "lmdb://"
SHARED = "shared-memory"
"""The file that notes what the names of the server's shared memory begin with."""

EXAMPLES = """\
examples, in a pod:
  python tools/serve_pod.py --build=/releases --release-file=/run/tritonrec/release --run=/run/tritonrec

settings are environment variables, TRITONREC_STORE and others: see tools/config/pod.py

exit status: 0 stopped by SIGTERM, 1 the server could not start or died, 2 bad usage or settings
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; the exit status."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    server = room = None
    try:
        settings = PodSettings.from_environment()
        _tidy(options.run)
        release = options.release_file.read_text(encoding="utf-8").strip()
        _write_repository(options.build.resolve(), release, options.run / "served", settings)
        if settings.store.startswith(LMDB):
            room = take_room(Path(settings.store.removeprefix(LMDB).partition("?")[0]))
        server = _server(options.run.resolve(), settings)
        (options.run / SHARED).write_text(server.shared_memory, encoding="utf-8")
        server.start()
        # For tools/probe.py, which looks for dead stages among its children.
        (options.run / "triton.pid").write_text(f"{server.pid}\n", encoding="utf-8")
        print(f"release {release} is served", flush=True)
        return _complain(server.wait(), SERVER_TROUBLE)
    except (ConfigError, NoCard, NoReleaseError, PlanRefused, ValueError, FileNotFoundError) as error:
        return _complain(error, BAD_USAGE)
    except (LibraryMissing, OSError, ServerUnavailableError, TooManyContainers) as error:
        return _complain(error, SERVER_TROUBLE)
    except KeyboardInterrupt:
        print("stopping", flush=True)
        return OK
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        (options.run / "triton.pid").unlink(missing_ok=True)
        if server is not None:
            server.stop()
        if room is not None:
            room.close()


def _tidy(run: Path) -> None:
    """Remove the shared memory of a server that was killed here: it would count as memory of this one."""
    note = run / SHARED
    prefix = note.read_text(encoding="utf-8") if note.exists() else ""
    if prefix:
        for leftover in SHARED_MEMORY.glob(f"{prefix}*"):
            leftover.unlink(missing_ok=True)


def _write_repository(build: Path, release: str, served: Path, settings: PodSettings) -> None:
    overrides = {"store_url": settings.store}
    if settings.rules is not None:
        overrides["rules_file"] = str(settings.rules.resolve(strict=True))
    found = open_release(build, release)
    require_artifacts(settings.profile, [found])
    plans = plans_for(settings.profile, settings.plans)
    tuning = _tuning(settings.tuning)
    write_served_repository([found.path], found.name, served, overrides=overrides, tuning=tuning, plans=plans)
    print(f"starting Triton with release {release}, users from {settings.store}", flush=True)


def _tuning(path: Path | None) -> Tuning:
    """How the models are to be run; empty is as their release says. Raises ConfigError."""
    if path is None or not path.is_file():
        return {}
    tuning = load_tuning(path)
    print(f"tuned by {path}: {describe_tuning(tuning) or 'nothing'}", flush=True)
    return tuning


def _server(folder: Path, settings: PodSettings) -> TritonServer:
    return TritonServer(
        folder / "served",
        log=None,
        backends=folder / "backends",
        profile=settings.profile,
        ports=Ports(settings.grpc_port, settings.http_port, settings.metrics_port),
        host=settings.host,
        timeout=PATIENCE,
        arguments=arguments_of(settings),
        channel=channel_of(settings),
        exit_timeout=Drain(settings.grace_seconds).exit_timeout,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/serve_pod.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, text in (
        ("build", "the folder with releases/NAME, which is only read"),
        ("release-file", "the file with the name of the release, from tools/verify_release.py"),
        ("run", "an empty folder for what is served"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="PATH", help=text)
    return parser


def _complain(error: object, status: int) -> int:
    print(f"serve_pod.py: {error}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
