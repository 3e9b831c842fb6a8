"""Pages per second against what people would use instead: FastAPI, BentoML and Ray Serve, on this machine.

Every side serves the same release from the same store: ours on Triton, local profile as shipped; each peer
once as its documentation would have it and once tuned; and the stages called in process, as the bound. Where
a side gives a sample of visitors other pages than the stages in process do, the run ends without a figure.

All sides are started in the beginning. While one is measured, the processes of all others are held still.
First each side's capacity is enclosed by bisection. Then, --repeats times, the sides take turns, in another
order each time: one request at a time, and the capacity anew, from the last one up or down until it is
enclosed again. So every repeat is a comparison of its own, and a machine whose speed drifts treats all alike.
Figures are medians over the repeats. The load is an open loop with Poisson arrivals, timed from the intended
start. With five repeats it takes about 17 minutes; nothing else should run on the machine meanwhile.

The first run installs the peers into --venv (about 600 MB), never into the product's environment.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import numpy as np
from bound import Bound
from drawing import draw
from environment import DEFAULT, NoEnvironmentError, prepare, versions
from figures import Figures, others_cores, ratios, table
from measuring import rounded
from rich.console import Console
from sides import CORES, OURS, PEERS, Ground, Ours, PeerSide, Side, SideError
from turns import Lengths, Turns

from python_backend.release import Release
from python_backend.stores import StoreUnavailable
from tools.load.slo import Slo, SloError
from tools.load.visitors import Audience, stored_users
from tools.machine import processor
from tools.releases.folder import NoReleaseError, find_release
from tools.serving.wheel import ServerUnavailableError

EXAMPLES = """\
examples:
  python tests/load/peers/compare.py --build build
  python tests/load/peers/compare.py --build build --quick --only tritonrec --only FastAPI
  python tests/load/peers/compare.py --build build --repeats 9 --slo p99=30ms,errors=0 --out build/strict

exit status: 0 measured, 1 a side did not start, broke, or gives other pages, 2 bad usage
"""
OK, FAILED, BAD_USAGE = 0, 1, 2
REPEATS = 5
QUICK = Lengths(search=2.0, probe=2.0, warm_up=0.5, alone=1.0)
QUIET = 0.1
"""Cores that other programs may use without a warning; the kernel's work for the network is among them."""
PLOT, JSON = "comparison.svg", "comparison.json"
OUR_PACKAGES = ("nvidia-pytriton", "tritonclient", "grpcio", "aiohttp", "onnxruntime", "numpy", "lmdb")
PEER_PACKAGES = ("fastapi", "uvicorn", "bentoml", "ray", "orjson", "onnxruntime", "numpy", "lmdb")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; the exit status."""
    options = _parser().parse_args(arguments)
    options.repeats = 1 if options.quick else options.repeats
    console = Console(highlight=False, soft_wrap=True)
    try:
        slo = Slo.parse(options.slo)
        chosen = choose(options.only)
        release = find_release(options.build.resolve())
        store = options.store or f"lmdb://{options.build.resolve() / 'store'}"
        audience = Audience(stored_users(store), items_of(release))
        if options.repeats < 1:
            raise ValueError(f"--repeats: found {options.repeats}; it must be at least 1")
    except (SloError, NoReleaseError, StoreUnavailable, ValueError, OSError) as error:
        return _complain(error, BAD_USAGE)
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.0f} s[/dim]  {text}")

    try:
        python = Path(sys.executable)
        if any(name != OURS for name in chosen):
            python = prepare(options.venv, say)
        options.out.mkdir(parents=True, exist_ok=True)
        ground = Ground(release, store, options.build.resolve(), options.out.resolve(), python)
        turns = _measure(ground, chosen, audience, slo, options, say)
    except (NoEnvironmentError, SideError, ServerUnavailableError, RuntimeError) as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return _complain("stopped; nothing is reported", FAILED)
    findings = list(turns.findings.values())
    bound = turns.in_process_figures(CORES)
    figures = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{CORES} × {processor()}, Linux {platform.release()}",
        "release": release.name,
        "sizes": release.sizes.to_dict(),
        "slo": str(slo),
        "repeats": options.repeats,
        "others_cores": rounded(others_cores(findings), 3),
        "minutes": rounded((time.monotonic() - began) / 60, 1),
        "versions": {
            "product": versions(Path(sys.executable), OUR_PACKAGES),
            "peers": versions(python, PEER_PACKAGES) if len(chosen) > 1 or chosen != [OURS] else {},
        },
        "ratios": ratios(findings),
        "sides": {each.name: each.figures() for each in findings},
        "in_process": bound,
    }
    limit = next((each.most for each in slo.limits if each.metric == "p99"), 50.0)
    (options.out / PLOT).write_text(draw(findings, limit), encoding="utf-8")
    text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False)
    (options.out / JSON).write_text(text + "\n", encoding="utf-8")
    console.print(table(findings, bound, str(slo)))
    _tell(figures, console)
    console.print(f"figures: {options.out / JSON}  plot: {options.out / PLOT}")
    return OK


def choose(only: Sequence[str]) -> list[str]:
    """The names of the sides that `only` asks for by a part of the name; all where it is empty.

    Raises ValueError on a part that no name has.
    """
    names = [OURS, *(peer.name for peer in PEERS)]
    for part in only:
        if not any(part.lower() in name.lower() for name in names):
            raise ValueError(f"--only: found {part!r}; allowed is a part of {' | '.join(names)}")
    return [name for name in names if not only or any(part.lower() in name.lower() for part in only)]


def items_of(release: Release) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The wire ids of a release's items."""
    with (release.artifacts / "items.tsv").open(encoding="utf-8", newline="") as file:
        return np.array([int(row["item_id"]) for row in csv.DictReader(file, delimiter="\t")], np.int64)


def _measure(
    ground: Ground,
    chosen: Sequence[str],
    audience: Audience,
    slo: Slo,
    options: argparse.Namespace,
    say: Callable[[str], None],
) -> Turns:
    sides: list[Side] = [Ours(ground)] if OURS in chosen else []
    sides += [PeerSide(peer, ground) for peer in PEERS if peer.name in chosen]
    lengths = QUICK if options.quick else Lengths()
    with ExitStack() as stack:
        bound = stack.enter_context(Bound(ground.release.path, ground.store, CORES))
        turns = Turns(sides, bound, audience, ground.release.sizes.session, slo, lengths, say)
        for side in sides:
            begin = time.monotonic()
            stack.enter_context(side)
            turns.check(side)
            side.rest()
            say(f"{side.name}: started in {time.monotonic() - begin:.1f} s, the same pages as in process")
        turns.measure_in_process()
        turns.enclose(start=turns.in_process["1"][0] / 2)
        for number in range(1, options.repeats + 1):
            turns.repeat(number)
    return turns


def _tell(figures: Figures, console: Console) -> None:
    for name, found in figures["ratios"].items():
        best = f"  (best: {found['best']}; repeats: {found['repeats']})" if "best" in found else ""
        console.print(f"{name}: [bold]{found['ratio']}[/bold]{best}")
    console.print(f"{figures['machine']}; {figures['repeats']} repeats, {figures['minutes']} minutes")
    if figures["others_cores"] > QUIET:
        used = f"other programs used {figures['others_cores']:.2f} cores meanwhile"
        console.print(f"[bold red]the machine was not quiet: {used}; do not use these figures[/bold red]")
    for who, found in figures["versions"].items():
        console.print(f"{who}: " + ", ".join(f"{name} {version}" for name, version in found.items()))


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _complain(error: object, status: int) -> int:
    print(f"compare.py: {error}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tests/load/peers/compare.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--build",
        type=Path,
        default=Path("build"),
        metavar="DIR",
        help="a release and its store; default: build",
    )
    add("--store", metavar="URL", help="the feature store (default: the build's LMDB)")
    add("--venv", type=Path, default=DEFAULT, metavar="DIR", help=f"of the peers; default: {DEFAULT}")
    add("--slo", default="p99=50ms,errors=0", metavar="LIMITS", help="default: p99=50ms,errors=0")
    add("--repeats", type=int, default=REPEATS, metavar="N", help=f"default: {REPEATS}")
    add(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="sides with this in their name; several times",
    )
    add(
        "--quick",
        action="store_true",
        help="one repeat of short probes: whether it works, not how fast it is",
    )
    add("--out", type=Path, default=Path("build/peers"), metavar="DIR", help="default: build/peers")
    return parser


if __name__ == "__main__":
    sys.exit(main())
