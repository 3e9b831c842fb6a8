"""Roll a release out in a Kubernetes cluster, watch it, ask it golden requests, and go back where it fails.

The release is checked here first, so --build must hold it: in the cluster that is the releases' volume.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from python_backend.release import Release
from tools.checks import CheckFailed
from tools.cluster.api import ClusterError, connect
from tools.cluster.deployment import BEFORE, FAILED, Deployment, annotation_of, release_of
from tools.cluster.judging import hindrances_of, progress_of
from tools.cluster.rollout import Broken, Refused, RolledBack, Rollout, forward
from tools.cluster.service import Service, add_tls_options, tls_given
from tools.releases.folder import LATEST, NoReleaseError, find_release
from tools.releases.golden import GOLDEN
from tools.serving.activation import require_release
from tools.serving.served import open_release
from tools.serving.steps import ActivationRefused, Steps

EXAMPLES = """\
examples:
  python tools/rollout.py set 3f9a0c51d2e7
  python tools/rollout.py set latest --build /releases            # in the cluster, on the releases' volume
  python tools/rollout.py set 3f9a0c51d2e7 --dry-run              # check it, print the patch, change nothing
  python tools/rollout.py set 3f9a0c51d2e7 --address recommend.example.com:443 --tls   # through a gateway
  python tools/rollout.py rollback
  python tools/rollout.py status

exit status: 0 done; 1 the release does not serve and the one before it does (rolled back, or never begun);
2 bad usage, or the cluster lacks something, and nothing was changed; 3 somebody has to look
"""
OK, NOT_SERVED, BAD_USAGE, BROKEN = 0, 1, 2, 3
PORT = 8001


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except (ActivationRefused, CheckFailed, Refused, RolledBack) as error:
        return _complain(error, NOT_SERVED)
    except (ClusterError, NoReleaseError, OSError, ValueError) as error:
        return _complain(error, BAD_USAGE)
    except Broken as error:
        return _complain(error, BROKEN)
    except KeyboardInterrupt:
        return _complain("stopped looking; what was begun goes on: see rollout.py status", BROKEN)


def _set(options: argparse.Namespace) -> int:
    if options.force != bool(options.reason):
        return _complain("--force and --reason go together: say why the gates do not count", BAD_USAGE)
    deployment, service = _deployment(options), _service(options)
    release = _find(options.build.resolve(), options.release)
    found = deployment.read()
    if options.release == LATEST and annotation_of(found, FAILED) == release.name:
        # Or a job that does this every morning would do it every morning.
        raise Refused(f"release {release.name} was taken back before; to try it again, name it")
    return _roll(options, deployment, service, found, release, judged=True)


def _rollback(options: argparse.Namespace) -> int:
    deployment, service = _deployment(options), _service(options)
    found = deployment.read()
    name = annotation_of(found, BEFORE)
    if name is None:
        return _complain(
            f"{deployment} does not say what was served before; set a release instead", BAD_USAGE
        )
    release = _find(options.build.resolve(), name)
    return _roll(options, deployment, service, found, release, judged=False)


def _roll(
    options: argparse.Namespace,
    deployment: Deployment,
    service: Service,
    found: Any,
    release: Release,
    *,
    judged: bool,
) -> int:
    """Check `release`, and have the cluster serve it; gates are asked where it is to be `judged`."""
    # What a dry run prints on standard output is the patch alone.
    console = Console(highlight=False, soft_wrap=True, stderr=options.dry_run)
    _require_ready(deployment, found)
    rollout = Rollout(
        deployment,
        service,
        wait=options.wait,
        console=console,
        with_rules=options.with_rules or bool(os.environ.get("TRITONREC_RULES")),
    )
    before = rollout.before(found, release.name)
    _require_release(options, release, before, console, judged=judged)
    if options.dry_run:
        patch = forward(found, release.name, before)
        deployment.patch(patch, dry_run=True)
        print(json.dumps(patch, indent=2))
        return OK
    rollout.start(found, release, before)
    console.print(f"{deployment} serves release {release.name}")
    return OK


def _require_ready(deployment: Deployment, found: Any) -> None:
    """Raise ClusterError where a rollout could not be followed."""
    if found.spec.paused:
        raise ClusterError(
            f"{deployment} is paused; first: kubectl rollout resume deployment {deployment.name}"
        )
    if found.spec.replicas == 0:
        raise ClusterError(f"{deployment} has 0 replicas, so nobody could be asked; scale it first")
    deployment.pods(found)  # not to find out half-way that they may not be listed


def _require_release(
    options: argparse.Namespace, release: Release, before: str | None, console: Console, *, judged: bool
) -> None:
    """Raise ActivationRefused unless `release` is whole and fits beside the release `before`."""
    from tools.releases.gates import judge_release

    if not (release.path / GOLDEN).exists():
        raise CheckFailed(f"release {release.name} brings no {GOLDEN}; build it again")
    active = None
    if before is not None:
        try:
            active = open_release(options.build.resolve(), before)
        except NoReleaseError as error:
            console.print(f"nothing is compared with what serves: {error}", markup=False)
    steps = Steps(say=lambda text: console.print(text, markup=False))
    gates = judge_release if judged else None
    require_release(release, active, gates, options.reason if judged else None, steps)


def _status(options: argparse.Namespace) -> int:
    deployment = _deployment(options)
    found = deployment.read()
    progress = progress_of(found)
    release = release_of(found.spec.template)
    print(f"release   {release or 'not told any'}, before it {annotation_of(found, BEFORE) or 'unknown'}")
    if failed := annotation_of(found, FAILED):
        print(f"failed    {failed} was taken back")
    print(f"pods      {progress.ready} of {progress.wanted} serve it", end="")
    print("" if progress.complete else f": {progress.problem or progress.text}")
    if hindrances := hindrances_of(deployment.pods(found), release):
        print(f"trouble   {hindrances}")
    try:
        print(f"answers   release {_service(options).release()}, at {options.address}")
    except CheckFailed as error:
        print(f"answers   none: {error}")
        return NOT_SERVED
    return OK if progress.complete else NOT_SERVED


def _deployment(options: argparse.Namespace) -> Deployment:
    api = connect(options.kubeconfig, options.context)
    options.address = options.address or f"{options.deployment}.{options.namespace}.svc:{PORT}"
    return Deployment(api, options.namespace, options.deployment)


def _service(options: argparse.Namespace) -> Service:
    return Service(options.address, tls_given(options, os.environ), settle=options.settle)


def _find(build: Path, name: str) -> Release:
    return find_release(build, name) if name == LATEST else open_release(build, name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/rollout.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        _add_cluster(added)
        return added

    setting = add("set", _set, "roll a release out; on failure the one before it comes back")
    setting.add_argument("release", help=f"12 hexadecimal digits, or {LATEST}")
    setting.add_argument("--force", action="store_true", help="although it fails gates; needs --reason")
    setting.add_argument("--reason", metavar="TEXT", help="why the gates do not count")
    rollback = add("rollback", _rollback, "roll out the release that was served before; gates are not asked")
    add("status", _status, "which release is served, and how far a rollout is")
    for command in (setting, rollback):
        command.add_argument(
            "--dry-run", action="store_true", help="check all, print the patch, change nothing"
        )
        command.add_argument(
            "--build",
            type=Path,
            default=Path("build"),
            metavar="DIR",
            help="where releases are (default: build)",
        )
        command.add_argument(
            "--wait", type=_seconds, default=1800.0, metavar="SECONDS", help="for the pods (default: 1800)"
        )
        command.add_argument(
            "--with-rules",
            action="store_true",
            help="an operator's rules change pages: only check their form (always, with TRITONREC_RULES)",
        )
    return parser


def _add_cluster(added: argparse.ArgumentParser) -> None:
    cluster = added.add_argument_group("the cluster")
    cluster.add_argument("--namespace", default="tritonrec", help="default: tritonrec")
    cluster.add_argument("--deployment", default="tritonrec", metavar="NAME", help="default: tritonrec")
    cluster.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="default: kubectl's, or the pod's own"
    )
    cluster.add_argument("--context", metavar="NAME", help="default: the kubeconfig's current one")
    service = added.add_argument_group("the Service that is asked")
    service.add_argument(
        "--address",
        metavar="HOST:PORT",
        help=f"gRPC (default: NAME.NAMESPACE.svc:{PORT}, as inside the cluster)",
    )
    service.add_argument(
        "--settle", type=_seconds, default=30.0, metavar="SECONDS",
        help="how long it may still lead to old pods after a rollout (default: 30)",
    )  # fmt: skip
    add_tls_options(service)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed is a number of seconds above 0")
    return seconds


def _complain(error: object, status: int) -> int:
    print(f"rollout.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    # A job that takes too long is told to end, and should say what becomes of the rollout.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
