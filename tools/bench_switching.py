"""What switching releases costs the users: 20 activations and rollbacks under load, in milliseconds.

A server of its own is started. First its capacity is searched: the highest rate at which it holds the
objective of --slo, as `make capacity` does. Then requests arrive at random (Poisson) at half of that rate,
whether earlier ones are answered or not, and latency counts from the moment at which a request was meant to
start: first without switching, then with one activation after the other. Every stage's release is compared in
every page. The load comes from this machine, so it shares the cores with what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tritonrec_client import RecommendError, Retry, Status
from tritonrec_client.aio import AsyncClient

from python_backend.release import Release
from python_backend.stores import StoreUnavailable
from tools.load.calls import NoServerError
from tools.load.probing import Prober, Windows
from tools.load.slo import Slo
from tools.load.visitors import Audience, stored_users
from tools.machine import machine
from tools.releases.folder import NoReleaseError
from tools.serving.activation import ActivationRefused, Control
from tools.serving.repository import write_served_repository
from tools.serving.served import open_release
from tools.serving.server import TritonServer
from tools.serving.wheel import ServerUnavailableError

EXAMPLES = """\
examples:
  python tools/bench_switching.py --releases 3f9a0c51d2e7 8d1c04be97a2
  python tools/bench_switching.py --releases 3f9a0c51d2e7 8d1c04be97a2 --switches 4 --json switching.json

exit status: 0 done, 1 the server could not start or refused a release, 2 there is no such release
"""
OK, FAILED, BAD_USAGE = 0, 1, 2
SLO = "p99=50ms,errors=0"
EXPECTED = 200.0
"""Requests per second from which the search for the capacity starts."""
TIMEOUT = 10.0
NEAR = 2.0
"""Seconds around a switch in which the longest pause is looked for."""
DEGRADED = Status.STORE_UNAVAILABLE | Status.CORRUPT_RECORD


@dataclass
class Phase:
    """What was seen while requests arrived at random.

    `latencies` are milliseconds from the intended start, `answered` the times of the answers and `releases`
    what made them, in the order of the answers.
    """

    latencies: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    failed: int = 0
    mixed: int = 0
    degraded: int = 0
    problems: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        percentiles = np.percentile(self.latencies, (50, 99, 99.9, 100))
        return {
            "requests": len(self.latencies) + self.failed,
            "failed": self.failed,
            "mixed": self.mixed,
            "degraded": self.degraded,
            **dict(zip(("p50", "p99", "p99.9", "max"), np.round(percentiles, 2).tolist(), strict=True)),
        }


class Load:
    """Requests of `users`, int64 ``[U]``, to one server."""

    def __init__(self, client: AsyncClient, users: NDArray[np.int64], seed: int) -> None:
        self._client = client
        self._users = users
        self._random = np.random.default_rng(seed)

    async def arrive(self, rate: float, phase: Phase, done: Callable[[], bool]) -> None:
        """Send `rate` requests a second, at random moments, until `done`; wait for the last answers."""
        running: set[asyncio.Task[None]] = set()
        intended = time.perf_counter()
        while not done():
            intended += float(self._random.exponential(1 / rate))
            if (ahead := intended - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            task = asyncio.create_task(self._one(intended, phase))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def _one(self, intended: float, phase: Phase) -> None:
        try:
            page = await self._client.recommend(int(self._random.choice(self._users)))
        except RecommendError as error:
            phase.failed += 1
            phase.problems.append(f"{type(error).__name__}: {error}")
            return
        now = time.perf_counter()
        phase.latencies.append((now - intended) * 1000)
        phase.answered.append(now)
        phase.releases.append(min(page.releases.values()))
        phase.mixed += not page.is_consistent
        phase.degraded += bool(page.status & DEGRADED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    options = _parser().parse_args(arguments)
    build = options.build.resolve()
    if options.switch_to:
        return _switch(build, options.address, options.switch_to)
    try:
        releases = [open_release(build, name) for name in options.releases]
    except (NoReleaseError, ValueError) as error:
        return _complain(error, BAD_USAGE)
    store = options.store or f"lmdb://{build / 'store'}"
    with tempfile.TemporaryDirectory(prefix="switching-", dir=build) as temporary:
        folder = Path(temporary)
        (folder / "releases").mkdir()
        for release in releases:
            (folder / "releases" / release.name).symlink_to(release.path)
        write_served_repository(
            [releases[0].path], releases[0].name, folder / "served", overrides={"store_url": store}
        )
        try:
            with TritonServer(
                folder / "served", log=build / "triton-switching.log", backends=build / "backends"
            ) as server:
                figures = _figures(server.address, folder, releases, store, options)
        except (ServerUnavailableError, ActivationRefused, StoreUnavailable, NoServerError) as error:
            return _complain(error, FAILED)
    _print(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return OK


def _figures(
    address: str, folder: Path, releases: Sequence[Release], store: str, options: argparse.Namespace
) -> dict[str, object]:
    """All figures of the benchmark."""
    users = stored_users(store)
    audience = Audience(users, np.zeros(0, np.int64), zipf=0.0, unknown=0.0, anonymous=0.0)
    prober = Prober(audience, Slo.parse(options.slo), Windows(probe=6.0, warm_up=1.0), options.seed)
    roughly = prober.find(address, EXPECTED).held
    capacity = prober.find_near(address, roughly or EXPECTED / 2).held
    return asyncio.run(_measure(address, folder, releases, capacity, users, options))


async def _measure(
    address: str,
    folder: Path,
    releases: Sequence[Release],
    capacity: float,
    users: NDArray[np.int64],
    options: argparse.Namespace,
) -> dict[str, object]:
    """What switching costs at a share of `capacity`, in requests per second."""
    console = Console(highlight=False, soft_wrap=True)
    async with AsyncClient(address, timeout=TIMEOUT, retry=Retry(attempts=1)) as client:
        await client.connect()
        load = Load(client, users, options.seed)
        rate = options.load * capacity
        console.print(
            f"capacity {capacity:.0f} requests/s at {options.slo}; from now on {rate:.0f} requests/s arrive"
        )
        # Once for the machine's caches, and to know how long a switch takes under load.
        trial = Phase()
        seconds = await _while_switching(load, rate, trial, folder, address, [releases[1]], options.every)
        # As long as all switches take, without the pauses between them.
        duration = options.switches * seconds[0]
        console.print(f"a switch takes {seconds[0]:.1f} s; first {duration:.0f} s without switching")
        quiet, busy = Phase(), Phase()
        end = time.perf_counter() + duration
        await load.arrive(rate, quiet, lambda: time.perf_counter() > end)
        console.print(f"now with {options.switches} activations and rollbacks")
        order = [releases[number % 2] for number in range(options.switches)]
        seconds = await _while_switching(load, rate, busy, folder, address, order, options.every)
    without, during = quiet.figures(), busy.figures()
    return {
        "releases": [release.name for release in releases],
        "capacity": round(capacity, 1),
        "slo": options.slo,
        "requests_per_second": round(rate, 1),
        "without switching": without,
        "with switching": during,
        "switches": len(seconds),
        "switches seen by callers": sum(
            one != other for one, other in zip(_settled(busy)[:-1], _settled(busy)[1:], strict=True)
        ),
        "p99 ratio": round(during["p99"] / without["p99"], 3),
        "seconds per activation": round(float(np.median(seconds)), 2),
        "seconds between two starts, at least": options.every,
        "longest pause around a switch, ms": _longest_pause(busy),
        "longest pause without switching, ms": round(1000 * float(np.diff(sorted(quiet.answered)).max()), 1),
        "problems": (trial.problems + quiet.problems + busy.problems)[:10],
        "machine": machine(),
    }


async def _while_switching(
    load: Load,
    rate: float,
    phase: Phase,
    folder: Path,
    address: str,
    order: Sequence[Release],
    every: float,
) -> list[float]:
    """Activate the releases of `order` one after the other under load; the seconds that each took."""
    finished = False
    arriving = asyncio.create_task(load.arrive(rate, phase, lambda: finished))
    seconds = []
    for release in order:
        begin = time.perf_counter()
        # A process of its own, like the command line: what it does must not delay the load.
        # Low in priority from its first instruction, as operators do beside a server: its imports alone take
        # half a second of a processor.
        command = ["nice", sys.executable, __file__, "--build", str(folder), "--address", address]
        process = await asyncio.create_subprocess_exec(
            *command, "--switch-to", release.name, stderr=subprocess.PIPE
        )
        _, complaint = await process.communicate()
        if process.returncode != OK:
            finished = True
            await arriving
            raise ActivationRefused("switch", f"exit status {process.returncode}: {complaint.decode()}")
        seconds.append(time.perf_counter() - begin)
        await asyncio.sleep(max(0.0, every - seconds[-1]))
    finished = True
    await arriving
    return seconds


def _switch(build: Path, address: str, name: str) -> int:
    """What the benchmark calls itself for: one activation, by no gates."""
    try:
        with Control(build, address) as control:
            control.activate(open_release(build, name))
    except ActivationRefused as error:
        return _complain(error, FAILED)
    return OK


def _settled(phase: Phase) -> list[str]:
    """The releases of the answers, without the few that overtook others at a switch."""
    window = 50
    return [
        max(set(part), key=part.count)
        for begin in range(0, len(phase.releases), window)
        if (part := phase.releases[begin : begin + window])
    ]


def _longest_pause(phase: Phase) -> float:
    """The longest time without an answer within `NEAR` seconds of a change of releases, in milliseconds."""
    times, releases = np.array(phase.answered), np.array(phase.releases)
    changes = times[1:][releases[1:] != releases[:-1]]
    gaps = np.diff(times)
    near = [gaps[np.abs(times[1:] - change) < NEAR].max() for change in changes]
    return round(1000 * float(max(near, default=0.0)), 1)


def _print(figures: dict[str, object]) -> None:
    table = Table(
        "", "requests", "failed", "mixed", "p50", "p99", "p99.9", "max", title="recommend, milliseconds"
    )
    for phase in ("without switching", "with switching"):
        row = figures[phase]
        assert isinstance(row, dict)
        names = ("requests", "failed", "mixed", "p50", "p99", "p99.9", "max")
        table.add_row(phase, *(f"{row[name]:,}" for name in names))
    console = Console(highlight=False)
    console.print(table)
    for name in (
        "p99 ratio",
        "switches",
        "switches seen by callers",
        "seconds per activation",
        "seconds between two starts, at least",
        "longest pause around a switch, ms",
        "longest pause without switching, ms",
        "capacity",
        "slo",
        "requests_per_second",
        "machine",
    ):
        console.print(f"{name}: {figures[name]}")
    for problem in figures["problems"]:  # type: ignore[attr-defined]
        console.print(problem)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bench_switching.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="default: build")
    parser.add_argument("--releases", nargs=2, metavar="R", default=(), help="the two to switch between")
    parser.add_argument("--switches", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument(
        "--every", type=float, default=0.0, metavar="SECONDS", help="between two starts (default: no pause)"
    )
    parser.add_argument(
        "--load", type=float, default=0.5, metavar="SHARE", help="of the capacity (default: 0.5)"
    )
    parser.add_argument("--slo", default=SLO, metavar="LIMITS", help=f"of the capacity (default: {SLO})")
    parser.add_argument("--store", metavar="URL", help="the feature store (default: the build's LMDB)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the arrivals (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--switch-to", help=argparse.SUPPRESS)
    return parser


def _complain(error: object, status: int) -> int:
    print(f"bench_switching.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
