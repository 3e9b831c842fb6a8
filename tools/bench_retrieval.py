"""How fast exact retrieval scans a catalogue, beside the bandwidth of this machine's own memory.

On one thread, pinned to one core: copying memory, and for made-up catalogues in clusters the scan alone and
the whole search (scan, top K, seen items left out, log probabilities), in 8 bits as `retrieve` does it and in
float32 as numpy's matrix product does it. They take turns, and figures are medians over the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

try:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    from python_backend.exact_search import ExactSearch, MissingLibrary
    from python_backend.item_index import ItemIndex
except ImportError as error:  # pragma: no cover - an environment without the server's libraries
    sys.exit(f"bench_retrieval.py: {error}; pip install 'tritonrec[server]' brings what is missing")

from tools.machine import processor
from tools.synthetic.vectors import clustered_vectors

EXAMPLES = """\
examples:
  python tools/bench_retrieval.py
  python tools/bench_retrieval.py --items 1000000 --repeats 21 --json retrieval.json
  python tools/bench_retrieval.py --gate            compare with the goals below

Bandwidth is bytes of the index that a scan reads ÷ time; that of the copy is bytes read + bytes written ÷
time; "read" adds up the same codes as 64-bit numbers, and is as fast as this core reads at all. Memory of the
copy is far larger than the caches. With --gate the largest catalogue, batch 1, must reach
0.8 of the copy's bandwidth in the scan alone and 0.6 with the top K, and find 0.999 of the float list.

exit status: 0 done, 1 a goal was missed (only with --gate), 2 bad usage
"""
OK, MISSED, BAD_USAGE = 0, 1, 2
COPY_BYTES = 1 << 28
SEEN, SEEN_WIDTH = 100, 1024
GOALS = {"scan": 0.8, "search": 0.6, "recall": 0.999}
Work = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    options = _parser().parse_args(arguments)
    if min(*options.items, *options.batches, options.repeats, options.candidates, options.width) < 1:
        print("bench_retrieval.py: every number must be at least 1", file=sys.stderr)
        return BAD_USAGE
    cores = sorted(os.sched_getaffinity(0))
    core = cores[-1] if options.core is None else options.core
    if core not in cores:
        print(f"bench_retrieval.py: core {core}; allowed are {cores}", file=sys.stderr)
        return BAD_USAGE
    os.sched_setaffinity(0, {core})
    console = Console(highlight=False)
    rows = []
    try:
        with threadpool_limits(1):
            for items in options.items:
                with console.status(f"{items:,} items"):
                    rows += measure(items, options)
    except MissingLibrary as error:
        print(f"bench_retrieval.py: {error}", file=sys.stderr)
        return BAD_USAGE
    finally:
        os.sched_setaffinity(0, cores)
    figures = {
        "rows": rows,
        "candidates": options.candidates,
        "width": options.width,
        "seed": options.seed,
        "repeats": options.repeats,
        "clock": "CPU time of the thread" if options.cpu_time else "wall",
        "machine": f"core {core} of {os.cpu_count()} × {processor()}, Python {platform.python_version()}",
    }
    _print(console, figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return MISSED if options.gate and missed(rows) else OK


def measure(items: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each batch size: milliseconds, GB/s and parts of the copy's bandwidth."""
    random = np.random.default_rng(options.seed)
    vectors = clustered_vectors(items + 1, options.width, options.seed)
    bias = random.normal(scale=0.5, size=items + 1).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        # From a file, as it is served; mapped memory outlives the file's name.
        ItemIndex.of(vectors, bias).write(Path(folder) / "index")
        search = ExactSearch(ItemIndex.open(Path(folder) / "index"), candidates=options.candidates)
    source = np.ones(COPY_BYTES // 4, np.float32)
    target = np.zeros_like(source)
    numbers = search.index.codes.reshape(-1).view(np.uint64)
    rows = []
    for batch in options.batches:
        # A query is near what its user liked, and scores spread as a trained model's do.
        liked = vectors[random.integers(1, items + 1, (batch, 4))].sum(axis=1)
        queries = (4 * liked + random.standard_normal(liked.shape)).astype(np.float32)
        seen = np.zeros((batch, SEEN_WIDTH), np.int32)
        seen[:, :SEEN] = random.integers(1, items + 1, (batch, SEEN))
        asked = (vectors, bias, queries, seen, options.candidates)
        prepared = search.prepare(queries, seen)
        works: list[tuple[str, int, Work]] = [
            ("copy", 2 * COPY_BYTES, partial(np.copyto, target, source)),
            ("read", search.index.codes.nbytes, partial(np.add.reduce, numbers)),
            ("scan", search.index.bytes_read, partial(search.scan, prepared)),
            ("search", search.index.bytes_read, partial(search, queries, seen)),
            ("float scan", vectors.nbytes, partial(_float_scores, vectors, bias, queries)),
            ("float search", vectors.nbytes, partial(float_search, *asked)),
        ]
        seconds = _in_turns([work for _, _, work in works], options)
        row: dict[str, Any] = {"items": items, "batch": batch}
        for (name, size, _), times in zip(works, seconds, strict=True):
            row[name] = {
                "ms": float(np.median(times)) * 1000,
                "GB/s": float(np.median(size / times)) / 1e9,
                # Of the same turn, so that a machine whose speed drifts treats both alike.
                "of copy": float(np.median(size / times / (2 * COPY_BYTES / seconds[0]))),
            }
        row["recall"] = recall(search(queries, seen)[0], float_search(*asked))
        rows.append(row)
    return rows


def float_search(
    vectors: NDArray[np.float32],
    bias: NDArray[np.float32],
    queries: NDArray[np.float32],
    seen: NDArray[np.int32],
    candidates: int,
) -> NDArray[np.int64]:
    """The best `candidates` unseen items by float32 scores, int64 ``[B, K]``, best first."""
    scores = _float_scores(vectors, bias, queries)
    scores[:, 0] = -np.inf
    np.put_along_axis(scores, seen.astype(np.int64), -np.inf, axis=1)
    candidates = min(candidates, scores.shape[1])
    best = np.argpartition(scores, -candidates, axis=1)[:, -candidates:]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


def recall(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """The share of each row of `wanted` that the same row of `found` has, on average."""
    shares = [np.isin(one, other).mean() for one, other in zip(wanted, found, strict=True)]
    return float(np.mean(shares))


def missed(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether the largest catalogue misses a goal at its smallest batch, or any list is not exact."""
    largest = max(rows, key=lambda row: (row["items"], -row["batch"]))
    slow = any(largest[name]["of copy"] < GOALS[name] for name in ("scan", "search"))
    return slow or min(row["recall"] for row in rows) < GOALS["recall"]


def _float_scores(
    vectors: NDArray[np.float32], bias: NDArray[np.float32], queries: NDArray[np.float32]
) -> NDArray[np.float32]:
    if len(queries) == 1:  # a matrix and a vector: BLAS is faster than with a matrix of one row
        return (vectors @ queries[0] + bias)[None]
    return (vectors @ queries.T).T + bias


def _in_turns(works: Sequence[Work], options: argparse.Namespace) -> NDArray[np.float64]:
    """Seconds that each of `works` took in each repeat, ``[works, repeats]``; the first turn is left out."""
    clock = time.thread_time if options.cpu_time else time.perf_counter
    seconds = np.empty((len(works), options.repeats + 1))
    for turn in range(options.repeats + 1):
        for place, work in enumerate(works):
            started = clock()
            work()
            seconds[place, turn] = clock() - started
    return seconds[:, 1:]


def _print(console: Console, figures: dict[str, Any]) -> None:
    table = Table(title=f"exact top {figures['candidates']}, {figures['width']} dimensions, one core")
    for column in ("items", "batch", "", "ms", "GB/s", "÷ copy", "recall"):
        table.add_column(column, justify="left" if column == "" else "right")
    for row in figures["rows"]:
        for name in ("read", "scan", "search", "float scan", "float search"):
            first = name == "read"
            table.add_row(
                f"{row['items']:,}" if first else "",
                str(row["batch"]) if first else "",
                name,
                f"{row[name]['ms']:.2f}",
                f"{row[name]['GB/s']:.1f}",
                f"{row[name]['of copy']:.2f}",
                f"{row['recall']:.4f}" if name == "search" else "",
            )
        table.add_section()
    console.print(table)
    copies = [row["copy"]["GB/s"] for row in figures["rows"]]
    console.print(f"copy: {min(copies):.1f} to {max(copies):.1f} GB/s; medians of {figures['repeats']} turns")
    console.print(figures["machine"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bench_retrieval.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sizes = [10_000, 100_000, 1_000_000]
    parser.add_argument("--items", type=int, nargs="+", default=sizes, metavar="N", help=f"default: {sizes}")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], metavar="B", help="default: [1, 8]")
    parser.add_argument("--width", type=int, default=64, metavar="D", help="of the vectors (default: 64)")
    parser.add_argument("--candidates", type=int, default=500, metavar="K", help="default: 500")
    parser.add_argument("--repeats", type=int, default=11, metavar="N", help="default: 11")
    parser.add_argument("--seed", type=int, default=1, help="of the made-up vectors (default: 1)")
    parser.add_argument("--core", type=int, metavar="N", help="the core to run on (default: the last)")
    parser.add_argument("--cpu-time", action="store_true", help="leave out waiting for a core that is shared")
    parser.add_argument("--gate", action="store_true", help="exit with 1 where a goal is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
