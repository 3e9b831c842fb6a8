"""p50 and p99 of `recommend` over gRPC, beside the same stages called in process, in one run.

The two take turns, so that a machine whose speed drifts treats both alike; figures are medians over the
repeats. One client, one request at a time, users drawn at random from the store.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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
from tools.serving.repository import write_served_repository
from tools.serving.server import LOCAL, STAGED, TritonServer
from tools.serving.wheel import ServerUnavailableError

OK, FAILED, BAD_USAGE = 0, 1, 2
REPEATS, REQUESTS = 7, 300
MOST_USERS = 1_000_000
"""Requests are for some of the first so many users."""


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
        with TritonServer(
            build / "bench",
            log=build / "triton-bench.log",
            backends=build / "backends",
            profile=options.profile,
        ) as server:
            users = draw_users(settings["store_url"], options.requests)
            figures = measure(server.address, release, settings, options.repeats, users)
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
    address: str, release: Release, settings: dict[str, str], repeats: int, users: NDArray[np.int64]
) -> dict[str, object]:
    """Milliseconds per request of both ways, as medians over the repeats; each asks for all of `users`."""
    pipeline = Pipeline.load(release, settings)
    with Client(address) as client:
        client.connect()

        def served(user: int) -> None:
            client.recommend(user)

        def in_process(user: int) -> None:
            pipeline(requests_of(np.array([user]), release.sizes, DEFAULT_DIVERSITY))

        times: dict[str, list[list[float]]] = {"served": [], "in process": []}
        for _ in range(repeats + 1):
            times["served"].append(_time(served, users))
            times["in process"].append(_time(in_process, users))
    figures: dict[str, object] = {
        way: {
            f"p{percentile}": float(np.median([np.percentile(run, percentile) for run in runs[1:]]))
            for percentile in (50, 99)
        }
        for way, runs in times.items()  # the first repeat of each only warms up
    }
    medians = [
        (np.median(one), np.median(other))
        for one, other in zip(times["served"][1:], times["in process"][1:], strict=True)
    ]
    figures["served p50 - in process p50"] = float(np.median([one - other for one, other in medians]))
    figures["served p50 / in process p50"] = float(np.median([one / other for one, other in medians]))
    figures["machine"] = machine()
    figures["runs"] = f"{repeats} repeats of {len(users)} requests each, in turns"
    return figures


def _time(ask: Callable[[int], None], users: NDArray[np.int64]) -> list[float]:
    milliseconds = []
    for user in users.tolist():
        started = time.perf_counter()
        ask(user)
        milliseconds.append((time.perf_counter() - started) * 1000)
    return milliseconds


def _print(figures: dict[str, object]) -> None:
    table = Table("", "p50", "p99", title="recommend, one client, milliseconds")
    for way in ("served", "in process"):
        row = figures[way]
        assert isinstance(row, dict)
        table.add_row(way, f"{row['p50']:.2f}", f"{row['p99']:.2f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"served p50 − in process p50: {figures['served p50 - in process p50']:.2f} ms,"
        f" as a ratio {figures['served p50 / in process p50']:.2f}"
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
