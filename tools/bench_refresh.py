"""Refresh against full build: the newest events are recorded while a release of the older ones serves."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from tritonrec_client.contract import Event

from python_backend.stores import UserEvent
from tools.config.build import BuildConfig, EventsConfig, StoreConfig, load_config
from tools.data.dataset import Dataset, load_dataset
from tools.data.fill import fill
from tools.data.gather import gather, open_log
from tools.data.interactions import Interactions
from tools.evaluation.evaluation import RERANK
from tools.evaluation.metrics import mean_interval, ndcg, paired_ratio
from tools.progress import Steps
from tools.releases.build import build_release, fingerprint_of
from tools.releases.refresh import contents, refresh

EXAMPLES = """\
examples:
  python tools/bench_refresh.py --config tools/config/movielens-100k.toml
  python tools/bench_refresh.py --config mine.toml --share 0.05 --repeats 1

It builds a release of the older events, records the newest in the event log, and then both refreshes and
builds anew from all of them; once for each repeat, with another seed. Each repeat takes two full builds. Both
times include what Python takes to import the libraries.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    rows = []
    for seed in range(1, options.repeats + 1):
        folder = options.output / f"seed-{seed}"
        config = load_config(options.config).model_copy(update={"seed": seed})
        rows.append(_measure(config, folder, options.share, console))
        console.print_json(json.dumps(rows[-1]))
    summary = {
        "repeats": len(rows),
        "refresh_seconds": median(row["refresh_seconds"] for row in rows),
        "full_seconds": median(row["full_seconds"] for row in rows),
        "times_faster": median(row["full_seconds"] / row["refresh_seconds"] for row in rows),
        "rows": rows,
    }
    (options.output / "refresh.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    console.print(
        f"a refresh takes {summary['refresh_seconds']:.1f} s, a full build {summary['full_seconds']:.1f} s:"
        f" {summary['times_faster']:.1f} times as long (medians of {len(rows)})"
    )
    return 0


def _measure(config: BuildConfig, folder: Path, share: float, console: Console) -> dict[str, Any]:
    """One repeat: seconds of both ways, and what both are worth on the same questions."""
    dataset = load_dataset(config)
    interactions = dataset.interactions
    newer = interactions.timestamps > np.quantile(interactions.timestamps, 1 - share)
    config = older_data(config, dataset, ~newer, folder)
    older = gather(config)
    fingerprint = fingerprint_of(config)
    build_release(config, older, fingerprint, Steps(7, console))
    fill(config, older, lambda done, total: None)
    record(config, interactions, newer)

    imports = _import_seconds()
    begin = time.monotonic()
    refreshed = refresh(config, console)
    refresh_seconds = imports + time.monotonic() - begin
    assert refreshed is not None

    begin = time.monotonic()
    steps = Steps(8, console)
    with steps.step("reading the data and the log"):
        everything = gather(config, learn=True)
    full = build_release(config, everything, fingerprint_of(config, contents(everything)), steps)
    fill(config, everything, lambda done, total: None)
    full_seconds = imports + time.monotonic() - begin

    theirs, ours = (_page_ndcg(release) for release in (full, refreshed))
    with np.load(refreshed / "report" / "compared.npz") as compared:
        before = ndcg(compared["ranks"], 10)
    return {
        "seed": config.seed,
        "new_events": int(newer.sum()),
        "refresh_seconds": round(refresh_seconds, 2),
        "full_seconds": round(full_seconds, 2),
        "ndcg_10": {
            "before": mean_interval(before).to_dict(),
            "refreshed": mean_interval(ours).to_dict(),
            "full": mean_interval(theirs).to_dict(),
            "refreshed_over_full": paired_ratio(ours, theirs).to_dict(),
            "refreshed_over_before": paired_ratio(ours, before).to_dict(),
        },
    }


def older_data(config: BuildConfig, dataset: Dataset, keep: NDArray[np.bool_], folder: Path) -> BuildConfig:
    """`config` for a build in `folder` from the events in `keep`, bool ``[n_events]``, alone."""
    interactions = dataset.interactions
    owners = np.repeat(np.arange(interactions.n_users), interactions.lengths)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "events.parquet"
    table = {
        "user": [dataset.user_keys[row] for row in owners[keep]],
        "item": [dataset.item_keys[item - 1] for item in interactions.items[keep]],
        "timestamp": interactions.timestamps[keep],
    }
    pq.write_table(pa.table(table), path)
    columns = {"path": path, "user": "user", "item": "item", "timestamp": "timestamp"}
    events = EventsConfig.model_validate(columns)
    return config.model_copy(
        update={
            "output": folder / "build",
            "store": StoreConfig(url=f"lmdb://{folder.resolve() / 'build' / 'store'}"),
            "data": config.data.model_copy(update={"events": events}),
        }
    )


def record(config: BuildConfig, interactions: Interactions, chosen: NDArray[np.bool_]) -> None:
    """Log the `chosen` events, bool ``[n_events]``, as clicks in the order of their time."""
    owners = np.repeat(np.arange(interactions.n_users), interactions.lengths)
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(interactions.timestamps[rows], kind="stable")]
    events = [
        UserEvent(
            int(interactions.user_ids[owners[row]]),
            int(interactions.item_ids[interactions.items[row]]),
            Event.CLICK,
            int(interactions.timestamps[row]),
            int(row).to_bytes(16, "big"),
        )
        for row in rows
    ]
    with open_log(config) as log:
        log.record(events)


def _import_seconds() -> float:
    """What a fresh interpreter takes until it can begin."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", "import tools.releases.refresh"], check=True)
    return time.monotonic() - begin


def _page_ndcg(release: Path) -> NDArray[np.float64]:
    with np.load(release / "report" / "ranks.npz") as ranks:
        return ndcg(ranks[RERANK], 10)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bench_refresh.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the build's TOML file")
    parser.add_argument(
        "--share", type=float, default=0.01, help="of the events that are new (default: 0.01)"
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="seeds 1 to N (default: 3)")
    parser.add_argument(
        "--output", type=Path, default=Path("build/bench/refresh"), metavar="DIR", help="for what is built"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
