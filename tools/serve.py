"""Serve the active release on this machine with the Triton server from the wheel `nvidia-pytriton`.

The active release is the one that served last (see tools/release.py); at the first start, the newest.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from python_backend.release import Release
from tools.config.tuning import TUNING, Tuning, describe_tuning, load_tuning
from tools.plans.builder import PlanRefused
from tools.plans.cache import FOLDER as PLANS
from tools.plans.capability import NoCard
from tools.plans.library import LibraryMissing
from tools.releases.folder import LATEST, NoReleaseError, find_release
from tools.releases.manifest import read_manifest
from tools.serving.device import CPU, CUDA, DEVICE
from tools.serving.history import Activation, note_activation
from tools.serving.lock import Busy, exclusively
from tools.serving.model_files import RepositoryError
from tools.serving.profiles import plans_for, require_artifacts
from tools.serving.repository import write_served_repository
from tools.serving.served import ServedRepository, open_release
from tools.serving.server import GPU, GPU_TORCH, LOCAL, STAGED, Ports, TritonServer
from tools.serving.wheel import ServerUnavailableError

OK, SERVER_TROUBLE, BAD_USAGE = 0, 1, 2

EXAMPLES = """\
examples:
  python tools/serve.py
  python tools/serve.py --release latest
  python tools/serve.py --release 3f9a0c51d2e7 --store redis://localhost:6379/0
  python tools/serve.py --profile staged
  python tools/serve.py --profile gpu          # with NVIDIA's Triton, and plans from tools/make_plans.py
  python tools/serve.py --profile gpu_torch
  python tools/serve.py --tuning my-machine.toml
  python tools/serve.py --rules rules.toml --grpc-port 9001 --http-port 9000 --metrics-port 9002

exit status: 0 stopped by Ctrl-C or SIGTERM, 1 the server could not start or died, 2 bad usage
"""


LOCK_PATIENCE = 60.0
"""Seconds that a start waits for somebody who is changing the served repository."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; the exit status."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    build = options.build.resolve()
    server = None
    try:
        # Nobody switches anything before the server is there.
        with exclusively(build / "served", wait=LOCK_PATIENCE, say=print):
            release = _write_repository(build, options)
            server = _server(build, options)
            server.start()
        print(_invitation(server, build, release), flush=True)
        reason = server.wait()
        return _complain(f"{reason}; see {server.log}", SERVER_TROUBLE)
    except (NoReleaseError, RepositoryError, NoCard, PlanRefused, ValueError, FileNotFoundError) as error:
        return _complain(error, BAD_USAGE)
    except (Busy, LibraryMissing, ServerUnavailableError) as error:
        return _complain(error, SERVER_TROUBLE)
    except KeyboardInterrupt:
        print("stopping", flush=True)
        return OK
    finally:
        # A second Ctrl-C would leave stages behind; stopping takes seconds at most.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if server is not None:
            server.stop()


def _write_repository(build: Path, options: argparse.Namespace) -> Release:
    """Write what is to be served, whatever a killed activation left there; the active release."""
    served = ServedRepository(build / "served")
    served.tidy()
    active = served.active
    release = _release(build, options.release, active)
    overrides = {"store_url": options.store or f"lmdb://{build / 'store'}"}
    if options.rules:
        overrides["rules_file"] = str(options.rules.resolve(strict=True))
    if options.device:
        overrides[DEVICE] = options.device
    arms = {}
    for arm, name in served.arms.items():
        try:
            arms[arm] = open_release(build, name)
        except NoReleaseError as error:
            print(f"arm {arm} ends: {error}", flush=True)
    require_artifacts(options.profile, (release, *arms.values()))
    plans = plans_for(options.profile, options.plans or build / PLANS)
    paths = {each.name: each.path for each in (release, *arms.values())}
    names = {arm: each.name for arm, each in arms.items()}
    tuning = _tuning(build, options)
    write_served_repository(
        [*paths.values()],
        release.name,
        served.folder,
        overrides=overrides,
        tuning=tuning,
        arms=names,
        plans=plans,
    )
    note_activation(build, Activation(release.name, active, "serve"))
    print(f"starting Triton with release {release.name}, users from {overrides['store_url']}", flush=True)
    if names:
        print("an experiment is running: " + ", ".join(f"{arm} is {name}" for arm, name in names.items()))
    return release


def _tuning(build: Path, options: argparse.Namespace) -> Tuning:
    """How the models are to be run; empty is as their releases say. Raises ConfigError."""
    path = options.tuning or build / TUNING
    if options.no_tuning or not (options.tuning or path.is_file()):
        return {}
    tuning = load_tuning(path)
    print(f"tuned by {path}: {describe_tuning(tuning) or 'nothing'}", flush=True)
    return tuning


def _release(build: Path, wanted: str | None, active: str | None) -> Release:
    """The release `wanted`, else the active one if it is still there, else the newest."""
    if wanted is not None:
        return find_release(build, wanted)
    if active is not None:
        try:
            return open_release(build, active)
        except NoReleaseError as error:
            print(f"the active release is gone ({error}); serving the newest", flush=True)
    return find_release(build)


def _server(build: Path, options: argparse.Namespace) -> TritonServer:
    return TritonServer(
        build / "served",
        log=build / "triton.log",
        backends=build / "backends",
        ports=Ports(options.grpc_port, options.http_port, options.metrics_port),
        host=options.host,
        profile=options.profile,
    )


def _invitation(server: TritonServer, build: Path, release: Release) -> str:
    items = release.artifacts / "items.tsv"
    lines = [
        f"serving `recommend`: gRPC {server.address}, HTTP port {server.ports.http},"
        f" metrics port {server.ports.metrics}; log {server.log}",
        f"ask it:  {_client()} recommend --address {server.address} {_user(release)} --items {items}",
        "stop it: Ctrl-C",
    ]
    newest = find_release(build).name
    if newest != release.name:
        switch = f"python tools/release.py activate {newest} --build {build} --address {server.address}"
        lines.insert(1, f"release {newest} is newer; switch to it with: {switch}")
    return "\n".join(lines)


def _client() -> str:
    """How a shell reaches the client: by its name, or beside this interpreter."""
    ours = Path(sys.executable).with_name("tritonrec")
    return os.path.relpath(ours) if ours.exists() and shutil.which("tritonrec") is None else "tritonrec"


def _user(release: Release) -> str:
    """A user of the release's data, as the client's arguments; nobody where its manifest names none."""
    examples = read_manifest(release.path).get("examples", {})
    if "heavy_user" not in examples:
        return ""
    argument = "--user" if examples["user_id_kind"] == "integer" else "--user-key"
    return f"{argument} {shlex.quote(examples['heavy_user'])}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/serve.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--release",
        metavar="NAME",
        help=f"its 12 hexadecimal digits or {LATEST} (default: the active one)",
    )
    parser.add_argument(
        "--build", type=Path, default=Path("build"), metavar="DIR", help="where releases are (default: build)"
    )
    parser.add_argument(
        "--store", metavar="URL", help="the feature store: lmdb://… or redis://… (default: the build's LMDB)"
    )
    parser.add_argument("--rules", type=Path, metavar="FILE", help="blocked and pinned items, caps")
    parser.add_argument(
        "--profile",
        choices=(LOCAL, STAGED, GPU, GPU_TORCH),
        default=LOCAL,
        help=f"{LOCAL}: all stages in one model (default); {STAGED}: an ensemble with a model per stage;"
        f" {GPU}: the same with retrieve and rank as TensorRT's plans;"
        f" {GPU_TORCH}: retrieve and rank in one model, by PyTorch on a GPU",
    )
    parser.add_argument(
        "--plans", type=Path, metavar="DIR", help=f"where {GPU} finds plans (default: the build's {PLANS})"
    )
    parser.add_argument(
        "--device",
        choices=(CUDA, CPU),
        help=f"what {GPU_TORCH} computes on (default: {CUDA}); {CPU} is the same without a GPU, and slower",
    )
    tuned = parser.add_mutually_exclusive_group()
    tuned.add_argument(
        "--tuning",
        type=Path,
        metavar="FILE",
        help="instances, threads, queue delay and batches of models, as tools/tune.py writes them; for the"
        f" releases that are activated later, too (default: the build's {TUNING}, where it is there)",
    )
    tuned.add_argument("--no-tuning", action="store_true", help=f"as shipped, whatever a {TUNING} says")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine only)")
    for name, port in (("grpc", 8001), ("http", 8000), ("metrics", 8002)):
        parser.add_argument(f"--{name}-port", type=_port, default=port, metavar="N", help=f"default: {port}")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r}; a port is a number from 1 to 65535")
    return int(text)


def _complain(error: object, status: int) -> int:
    print(f"serve.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
