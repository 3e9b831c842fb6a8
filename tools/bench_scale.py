"""How serving grows with the catalogue: latency, start and memory, for made-up catalogues of several sizes.

For each size a synthetic release is built where it is not there yet (tools/synthesise.py), a real server is
started, and pages are asked for over gRPC and of the same stages in this process, taking turns. Then the
server's processes are asked for their memory. Writes scale.json and scale.svg.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from tritonrec_client import Client

from python_backend.stores import StoreUnavailable
from tools.arguments import above_zero
from tools.bench_latency import REPEATS, REQUESTS, draw_users, measure
from tools.growth import Figures, growth_of, growth_plot, latency_table, memory_table
from tools.memory import memory_of_models
from tools.releases.folder import NoReleaseError, find_release
from tools.serving.repository import write_served_repository
from tools.serving.server import LOCAL, STAGED, TritonServer
from tools.serving.wheel import ServerUnavailableError
from tools.synthetic.release import read_synthesis

EXAMPLES = """\
examples:
  python tools/bench_scale.py                                  # 10,000, 100,000 and a million items
  python tools/bench_scale.py --items 1000 5000 --repeats 3 --requests 50
  python tools/bench_scale.py --items 100000 --users 1000000 --output build/scale

exit status: 0 done, 1 a build failed or a server was missing, 2 bad usage
"""
OK, FAILED, BAD_USAGE = 0, 1, 2
ABOUT = "SYNTHETIC catalogues, untrained models: for scale only"
SIZES = (10_000, 100_000, 1_000_000)
SYNTHESISE = Path(__file__).with_name("synthesise.py")
PATIENCE = 600.0
"""Seconds that a server may take to start."""


class SynthesisFailed(RuntimeError):
    """A made-up release could not be built; it has said why itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    sizes: list[Figures] = []
    try:
        for items in sorted(set(options.items)):
            build = options.output.resolve() / str(items)
            users = options.users or items
            synthesise(items, users, build)
            console.print(f"serving {items:,} items and {users:,} users")
            sizes.append({"items": items, "users": users, **measure_build(build, options)})
    except (
        NoReleaseError,
        ServerUnavailableError,
        StoreUnavailable,
        SynthesisFailed,
    ) as error:
        print(f"bench_scale.py: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("bench_scale.py: stopped; nothing was written", file=sys.stderr)
        return FAILED
    figures: Figures = {"about": ABOUT, "sizes": sizes, "growth": growth_of(sizes)}
    (options.output / "scale.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (options.output / "scale.svg").write_text(growth_plot(figures), encoding="utf-8")
    tell(figures, console)
    console.print(f"figures and plot: {options.output / 'scale.json'}, {options.output / 'scale.svg'}")
    return OK


def synthesise(items: int, users: int, build: Path) -> None:
    """Have a made-up release in `build`, in a process of its own, whose memory is only what that takes.

    Raises SynthesisFailed.
    """
    command = [sys.executable, str(SYNTHESISE), "--items", str(items), "--users", str(users)]
    if subprocess.run([*command, "--output", str(build)]).returncode:
        raise SynthesisFailed(f"no release of {items:,} items and {users:,} users; see above")


def measure_build(build: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Serve the newest release in `build` and measure it: start and latency as shipped, then memory.

    Memory is measured once more with a model per stage.
    """
    release, made = find_release(build), read_synthesis(build)
    if made is None or made.release != release.name:
        raise SynthesisFailed(f"{build} does not say what building release {release.name} took")
    settings = {"store_url": f"lmdb://{build / 'store'}"}
    write_served_repository([release.path], release.name, build / "bench", overrides=settings)
    users = draw_users(settings["store_url"], options.requests)
    latency: dict[str, object] = {}
    start, memory = {}, {}
    for profile in (LOCAL, STAGED):
        server = TritonServer(
            build / "bench",
            log=build / f"triton-bench-{profile}.log",
            backends=build / "backends",
            profile=profile,
            timeout=PATIENCE,
        )
        begin = time.monotonic()
        with server:
            start[profile] = time.monotonic() - begin
            if profile == LOCAL:
                latency = measure(server.address, release, settings, options.repeats, users)
            else:  # only to see what each stage takes by itself
                with Client(server.address) as client:
                    for user in users.tolist():
                        client.recommend(user)
            memory[profile] = memory_of_models(server.pid)
    return {
        "release": release.name,
        "events": made.events,
        "build": {"seconds": made.seconds, "peak_bytes": made.peak_bytes},
        "start_seconds": start[LOCAL],
        "latency": latency,
        "memory": memory,
    }


def tell(figures: Figures, console: Console) -> None:
    """Print `figures` for people."""
    console.print()
    console.print(latency_table(figures))
    console.print(memory_table(figures))
    growth = figures["growth"]
    if len(figures["sizes"]) > 1:
        console.print(
            f"{growth['items']:g} times the items: p50 grew {growth['served p50']:.1f} times as served,"
            f" {growth['in process p50']:.1f} times in process"
        )
    latency = figures["sizes"][-1]["latency"]
    console.print(f"{latency['machine']}; {latency['runs']}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bench_scale.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--items",
        type=above_zero,
        nargs="+",
        default=list(SIZES),
        metavar="N",
        help=f"the sizes; default: {' '.join(map(str, SIZES))}",
    )
    parser.add_argument("--users", type=above_zero, metavar="N", help="default: as many as items")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/scale"),
        metavar="DIR",
        help="a folder of build folders; default: build/scale",
    )
    parser.add_argument(
        "--repeats", type=above_zero, default=REPEATS, metavar="N", help=f"default: {REPEATS}"
    )
    parser.add_argument(
        "--requests", type=above_zero, default=REQUESTS, metavar="N", help=f"default: {REQUESTS}"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
