"""Serve the newest release, ask for four kinds of user, and show where the time goes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from tritonrec_client import Client, Item, Request, format_page, read_items
from tritonrec_client.contract import PIPELINE, RECOMMEND

from python_backend.metrics import EVERY
from tools.releases.folder import NoReleaseError, find_release
from tools.releases.manifest import read_manifest
from tools.serving.metrics import StageTime, spent, steps_among
from tools.serving.repository import write_served_repository
from tools.serving.server import Statistics, TritonServer
from tools.serving.wheel import ServerUnavailableError

EXAMPLES = """\
examples:
  python tools/demo.py
  python tools/demo.py --build build --store redis://localhost:6379/0

exit status: 0 done, 1 the server could not start, 2 there is no release
"""
OK, FAILED, BAD_USAGE = 0, 1, 2
SHOWN = 10
ROUNDS = 50
"""How often each user is asked for the latencies: enough for a steady mean, little enough not to wait."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    build = options.build.resolve()
    try:
        release = find_release(build)
    except NoReleaseError as error:
        print(f"demo.py: {error}", file=sys.stderr)
        return BAD_USAGE
    overrides = {"store_url": options.store or f"lmdb://{build / 'store'}"}
    write_served_repository([release.path], release.name, build / "demo", overrides=overrides)
    console.print(f"starting Triton with release {release.name}")
    try:
        with TritonServer(
            build / "demo", log=build / "triton-demo.log", backends=build / "backends"
        ) as server:
            _show(server, read_manifest(release.path), read_items(release.artifacts / "items.tsv"), console)
    except ServerUnavailableError as error:
        print(f"demo.py: {error}", file=sys.stderr)
        return FAILED
    report = release.path / "report" / "index.html"
    console.print(f"\nThe server is stopped. The release's report: {report}")
    console.print("Keep it running with: make serve")
    return OK


def _show(
    server: TritonServer, manifest: Mapping[str, Any], items: Mapping[int, Item], console: Console
) -> None:
    requests = example_requests(manifest["examples"], {item.key: item.title for item in items.values()})
    model = f"{PIPELINE.name}_{manifest['release']}"
    with Client(server.address) as client:
        client.connect()
        for title, request in requests.items():
            started = time.perf_counter()
            page = client.recommend(
                request.user, request.session, diversity=request.diversity, count=request.count
            )
            latency = time.perf_counter() - started
            console.print(f"\n{title}", style="bold", markup=False, soft_wrap=True)
            # Not through rich: titles may hold what it would take for markup.
            print(format_page(page, items, latency=latency), flush=True)
        time.sleep(2 * EVERY)  # so that every batch so far is in the metrics
        before = server.statistics()[model], server.stage_times()
        started = time.perf_counter()
        for _ in range(ROUNDS):
            for request in requests.values():
                client.recommend(request.user, request.session)
        mean = (time.perf_counter() - started) / (ROUNDS * len(requests))
        time.sleep(2 * EVERY)
        statistics, times = server.statistics()[model] - before[0], spent(before[1], server.stage_times())
    console.print(
        f"\n[bold]Where the time goes[/bold]  (mean of {ROUNDS * len(requests)} requests, one client)"
    )
    for line in share_lines(statistics, times, mean * 1000):
        console.print(line)


def example_requests(examples: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, Request]:
    """The four requests of the demonstration by their headline, from a manifest's examples."""

    def key(name: str, value: str) -> int | str:
        return int(value) if examples[f"{name}_id_kind"] == "integer" else value

    heavy, light = (key("user", examples[f"{kind}_user"]) for kind in ("heavy", "light"))
    session = [key("item", item) for item in examples["session"]]
    looked_at = " · ".join(titles[item] for item in examples["session"])
    return {
        f"A heavy user: {heavy}": Request(heavy, count=SHOWN),
        f"A light user: {light}": Request(light, count=SHOWN),
        "A user nobody knows": Request("nobody-knows-this-user", count=SHOWN),
        f"Somebody anonymous who just looked at {looked_at}": Request(session=session, count=SHOWN),
    }


def share_lines(pipeline: Statistics, times: Mapping[str, StageTime], client_ms: float) -> list[str]:
    """A line per stage with its milliseconds and its share of `client_ms`, what a client waits on average.

    `pipeline` is what Triton counted for the model of all stages, `times` what that measured itself.
    """
    queue, compute = (
        milliseconds / max(pipeline.requests, 1) for milliseconds in (pipeline.queue_ms, pipeline.compute_ms)
    )
    stages = {step: 1000 * times[step].seconds / times[step].batches for step in steps_among(times)}
    lines = [_share_line(stage, milliseconds, client_ms) for stage, milliseconds in stages.items()]
    around = max(compute - sum(stages.values()), 0.0)
    lines.append(_share_line("Triton, around", around, client_ms, "tensors to the stages' process and back"))
    lines.append(_share_line("Triton, queue", queue, client_ms))
    rest = max(client_ms - queue - compute, 0.0)
    lines.append(_share_line("the rest", rest, client_ms, f"{RECOMMEND.name}'s step, gRPC, client"))
    lines.append(f"  {'a client waits':<16}{client_ms:6.2f} ms")
    return lines


def _share_line(name: str, milliseconds: float, total: float, note: str = "") -> str:
    share = milliseconds / total
    return f"  {name:<16}{milliseconds:6.2f} ms {share:5.0%}  {'█' * round(share * 30):<30}  {note}".rstrip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/demo.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--build", type=Path, default=Path("build"), metavar="DIR", help="where releases are (default: build)"
    )
    parser.add_argument("--store", metavar="URL", help="the feature store (default: the build's LMDB)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
