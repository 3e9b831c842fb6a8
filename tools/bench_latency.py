"""p50 and p99 of `recommend` over gRPC, beside the same stages called in process, in one run.

Two more ways say where the difference comes from: the same server with models that compute nothing, which is
what gRPC, Triton, its processes and the client cost; and the stages in process with pauses, as they have them
when served, which is what it costs that processors sleep and caches are used by others meanwhile.

All take turns, so that a machine whose speed drifts treats them alike; figures are medians over the
repeats. One client, one request at a time, users drawn at random from the store.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tritonrec_client import Client
from tritonrec_client.contract import DEFAULT_DIVERSITY

from python_backend.pipeline import Pipeline
from python_backend.release import Release
from python_backend.stores import StoreUnavailable
from tools.evaluation.served import requests_of
from tools.load.visitors import stored_users
from tools.machine import machine
from tools.releases.folder import NoReleaseError, find_release
from tools.serving.emptying import write_emptied_repository
from tools.serving.repository import write_served_repository
from tools.serving.server import LOCAL, STAGED, TritonServer
from tools.serving.wheel import ServerUnavailableError

OK, FAILED, BAD_USAGE = 0, 1, 2
REPEATS, REQUESTS = 7, 300
MOST_USERS = 1_000_000
"""Requests are for some of the first so many users."""

SERVED, IN_PROCESS = "served", "in process"
EMPTY, SELDOM = "served, nothing computed", "in process, with pauses"
Figures = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    options = _parser().parse_args(arguments)
    build = options.build.resolve()
    try:
        release = find_release(build)
    except NoReleaseError as error:
        print(f"bench_latency.py: {error}", file=sys.stderr)
        return BAD_USAGE
    settings = {"store_url": options.store or f"lmdb://{build / 'store'}"}
    write_served_repository([release.path], release.name, build / "bench", overrides=settings)
    try:
        users = draw_users(settings["store_url"], options.requests)
        write_emptied_repository(build / "bench", build / "bench-empty")
        server, empty = (
            TritonServer(
                build / folder,
                log=build / f"triton-{folder}.log",
                backends=build / "backends",
                profile=options.profile,
            )
            for folder in ("bench", "bench-empty")
        )
        with server, empty:
            figures = measure(server.address, release, settings, options.repeats, users, empty=empty.address)
    except (ServerUnavailableError, StoreUnavailable) as error:
        print(f"bench_latency.py: {error}", file=sys.stderr)
        return FAILED
    _print(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return OK


def draw_users(store_url: str, count: int) -> NDArray[np.int64]:
    """`count` of the store's users, int64, always the same ones. Raises StoreUnavailable."""
    users = stored_users(store_url, MOST_USERS)
    if not len(users):
        raise StoreUnavailable("the store holds no users")
    return np.random.default_rng(1).choice(users, count)


def measure(
    address: str,
    release: Release,
    settings: dict[str, str],
    repeats: int,
    users: NDArray[np.int64],
    empty: str | None = None,
) -> Figures:
    """Milliseconds per request of each way, as medians over the repeats; each asks for all of `users`.

    `empty` is the address of the server whose models compute nothing; without it, the ways that say where
    the difference comes from are left out.
    """
    pipeline = Pipeline.load(release, settings)

    def in_process(user: int) -> None:
        inputs = requests_of(np.array([user]), release.sizes, DEFAULT_DIVERSITY)
        pipeline.check(inputs)
        pipeline(inputs)

    times: dict[str, list[list[float]]] = {SERVED: [], IN_PROCESS: []}
    with Client(address) as client, Client(empty or address) as nothing:
        for _ in range(repeats + 1):
            times[SERVED].append(_time(client.recommend, users))
            times[IN_PROCESS].append(_time(in_process, users))
            if empty is not None:
                times.setdefault(EMPTY, []).append(_time(nothing.recommend, users))
                # As long as the stages' process waits for the next request when it serves.
                pause = float(np.median(times[SERVED][-1]) - np.median(times[IN_PROCESS][-1]))
                times.setdefault(SELDOM, []).append(_time(in_process, users, max(0.0, pause)))
    # The first repeat of each only warms up.
    medians = {way: np.array([np.median(run) for run in runs[1:]]) for way, runs in times.items()}
    figures: Figures = {
        way: {
            f"p{percentile}": float(np.median([np.percentile(run, percentile) for run in runs[1:]]))
            for percentile in (50, 99)
        }
        for way, runs in times.items()
    }
    served, bound = medians[SERVED], medians[IN_PROCESS]
    figures["served p50 - in process p50"] = float(np.median(served - bound))
    figures["served p50 / in process p50"] = float(np.median(served / bound))
    if empty is not None:
        figures["of this nothing computed"] = float(np.median(medians[EMPTY]))
        figures["of this pauses"] = float(np.median(medians[SELDOM] - bound))
    figures["machine"] = machine()
    figures["runs"] = f"{repeats} repeats of {len(users)} requests each, in turns"
    return figures


def _time(ask: Callable[[int], object], users: NDArray[np.int64], pause: float = 0.0) -> list[float]:
    """Milliseconds of a request for each of `users`, after a `pause` of so many each."""
    milliseconds = []
    for user in users.tolist():
        if pause:
            time.sleep(pause / 1000)
        started = time.perf_counter()
        ask(user)
        milliseconds.append((time.perf_counter() - started) * 1000)
    return milliseconds


def _print(figures: Figures) -> None:
    table = Table("", "p50", "p99", title="recommend, one client, milliseconds")
    for way in (SERVED, IN_PROCESS, EMPTY, SELDOM):
        row = figures[way]
        table.add_row(way, f"{row['p50']:.2f}", f"{row['p99']:.2f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"served p50 − in process p50: {figures['served p50 - in process p50']:.2f} ms,"
        f" as a ratio {figures['served p50 / in process p50']:.2f}"
    )
    console.print(
        f"of this, a page on which nothing is computed: {figures['of this nothing computed']:.2f} ms,"
        f" pauses: {figures['of this pauses']:.2f} ms"
    )
    console.print(f"{figures['machine']}; {figures['runs']}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python tools/bench_latency.py", description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="default: build")
    parser.add_argument("--store", metavar="URL", help="the feature store (default: the build's LMDB)")
    parser.add_argument("--profile", choices=(LOCAL, STAGED), default=LOCAL, help=f"default: {LOCAL}")
    parser.add_argument("--repeats", type=int, default=REPEATS, metavar="N", help=f"default: {REPEATS}")
    parser.add_argument("--requests", type=int, default=REQUESTS, metavar="N", help=f"default: {REQUESTS}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
