"""How much memory and time it takes to read many events and turn them into training data.

    python tools/bench_ingest.py                       20 million events as Parquet
    python tools/bench_ingest.py --format csv --json ingest.json

Exits with 1 where the peak of resident memory is above the limit (8 GB by default).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tools.config.build import BuildConfig
from tools.data.dataset import load_dataset
from tools.data.split import leave_one_out
from tools.data.synthetic import write_events

GIGABYTE = 10**9
Result = TypeVar("Result")


def peak_bytes() -> int:
    """The most memory that this process ever had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ingest(path: str) -> dict[str, Any]:
    """Read the events at `path` and build training data; seconds and peak bytes after each step."""
    steps: dict[str, dict[str, float]] = {}

    def step(name: str, work: Callable[[], Result]) -> Result:
        started = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - started
        steps[name] = {"seconds": round(seconds, 2), "peak_gb": round(peak_bytes() / GIGABYTE, 2)}
        return result

    columns = {"path": path, "user": "user", "item": "item", "timestamp": "timestamp"}
    contract = {"candidates": 1, "results": 1}  # any number of items will do
    config = BuildConfig.model_validate({"name": "bench", "data": {"events": columns}, "contract": contract})
    steps["imports"] = {"seconds": 0.0, "peak_gb": round(peak_bytes() / GIGABYTE, 2)}
    dataset = step("read, check, group by user", lambda: load_dataset(config))
    split = step("leave one out", lambda: leave_one_out(dataset.interactions))
    matrix = step("sparse matrix", split.train.to_csr)
    return {
        "events": dataset.events_read,
        "users": dataset.interactions.n_users,
        "items": dataset.interactions.n_items,
        "training_events": split.train.n_events,
        "test_users": int((split.test > 0).sum()),
        "matrix_values": int(matrix.nnz),
        "steps": steps,
        "seconds": round(sum(values["seconds"] for values in steps.values()), 2),
        "peak_gb": round(peak_bytes() / GIGABYTE, 2),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Write the events and ingest them in a process of its own, whose memory is only what that takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"events.{options.format}"
        write_events(path, options.events, options.users, options.items, options.seed)
        size = path.stat().st_size
        command = [sys.executable, __file__, "--ingest", str(path)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return {"format": options.format, "file_gb": round(size / GIGABYTE, 2), **result}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure reading events and building training data.")
    parser.add_argument("--format", choices=["parquet", "csv"], default="parquet")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit-gb", type=float, default=8.0)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--ingest", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.ingest:
        print(json.dumps(ingest(options.ingest)))
        return 0
    result = measure(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"{result['events']:,} events, {result['users']:,} users, {result['items']:,} items, "
        f"{result['format']} ({result['file_gb']} GB)\n"
    )
    print(f"{'step':<28} {'seconds':>8} {'peak GB':>8}")
    for name, values in result["steps"].items():
        print(f"{name:<28} {values['seconds']:>8.1f} {values['peak_gb']:>8.2f}")
    print(f"{'total':<28} {result['seconds']:>8.1f} {result['peak_gb']:>8.2f}")
    if result["peak_gb"] > options.limit_gb:
        print(f"\nerror: the peak is above the limit of {options.limit_gb:g} GB", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
