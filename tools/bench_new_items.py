"""Items that nobody has met: taken out of the data, added again without events, and looked for on pages."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from tritonrec_client.contract import DEFAULT_DIVERSITY

from python_backend.pipeline import Pipeline
from python_backend.release import Release
from python_backend.stores import UserRecord, open_store
from tools.bench_refresh import older_data
from tools.config.build import BuildConfig, load_config
from tools.data.dataset import Dataset, load_dataset
from tools.data.gather import gather
from tools.evaluation.served import BATCH, requests_of
from tools.progress import Steps
from tools.releases.build import build_release, fingerprint_of
from tools.releases.refresh import refresh

EXAMPLES = """\
examples:
  python tools/bench_new_items.py --config tools/config/movielens-100k.toml

A share of the items, drawn at random, is taken out of the item table and of the events. A release is built of
the rest; then the items are added to the table, and a refresh gives them vectors. Measured is, for each event
of such an item, whether the item is on the page that rests on what that user had done before.
"""
MOST_EVENTS = 4000
"""So many of the new items' events are asked about, drawn at random."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    config = load_config(options.config).model_copy(update={"seed": options.seed})
    if config.data.items is None:
        print("bench_new_items.py: the configuration has no [data.items]", file=sys.stderr)
        return 2
    dataset = load_dataset(config)
    random = np.random.default_rng(config.seed)
    count = max(1, round(options.share * dataset.interactions.n_items))
    new = np.sort(random.permutation(np.arange(1, dataset.interactions.n_items + 1))[:count])
    met = ~np.isin(dataset.interactions.items, new)

    complete = older_data(config, dataset, met, options.output)
    lacking = _without_items(complete, {dataset.item_keys[item - 1] for item in new}, options.output)
    build_release(lacking, gather(lacking), fingerprint_of(lacking), Steps(7, console))
    refreshed = refresh(complete, console)
    assert refreshed is not None

    figures = _measure(Release.open(refreshed), dataset, new, random)
    (options.output / "new_items.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console.print_json(json.dumps(figures))
    return 0


def _without_items(config: BuildConfig, keys: set[str], folder: Path) -> BuildConfig:
    """`config` with an item table that lacks the items `keys`."""
    items = config.data.items
    assert items is not None
    if items.resolved_format == "parquet":
        table = pd.read_parquet(items.path).astype({items.id: str})
    else:
        separator = "\t" if items.resolved_format == "tsv" else ","
        table = pd.read_csv(items.path, sep=separator, dtype=str, keep_default_na=False)
    path = folder / "items.tsv"
    table[~table[items.id].isin(keys)].to_csv(path, sep="\t", index=False)
    lacking = items.model_copy(update={"path": path, "format": "tsv"})
    return config.model_copy(update={"data": config.data.model_copy(update={"items": lacking})})


def _measure(
    release: Release, dataset: Dataset, new: NDArray[np.int64], random: np.random.Generator
) -> dict[str, Any]:
    """How often `release` shows or retrieves the new item that a user met next."""
    known = dataset.interactions
    owners = np.repeat(np.arange(known.n_users), known.lengths)
    is_new = np.isin(known.items, new)
    events = np.flatnonzero(is_new)
    events = np.sort(random.permutation(events)[:MOST_EVENTS])
    records = {}
    for number, event in enumerate(events.tolist()):
        before = np.arange(known.offsets[owners[event]], event)
        before = before[~is_new[before]]
        records[number] = UserRecord(
            known.item_ids[known.items[before]],
            known.timestamps[before],
            dataset.user_features[owners[event]],
        )
    targets = known.item_ids[known.items[events]]
    with tempfile.TemporaryDirectory() as folder:
        url = f"lmdb://{folder}"
        with open_store(url) as store:
            store.put_many(records)
        pipeline = Pipeline.load(release, {"store_url": url})
        plain, varied = (
            _ask(pipeline, release, len(events), diversity) for diversity in (0.0, DEFAULT_DIVERSITY)
        )
    new_ids = known.item_ids[new]
    with np.load(release.artifacts / "items.npz") as items:
        wire_ids = items["wire_id"]
    candidates = wire_ids[plain["candidate"]]
    # Popularity has nothing to go by: these items have no events, so all others stand before them.
    popularity = np.argsort(-np.where(np.isin(known.item_ids, new_ids), 0, known.popularity()), kind="stable")
    shown = {name: page["item_id"] for name, page in (("page", plain), ("default_page", varied))}
    results, retrieved = release.sizes.results, release.sizes.candidates
    return {
        "release": release.name,
        "new_items": len(new),
        "catalogue": known.n_items,
        "events": len(events),
        f"recall_{results}": {
            **{name: _recall(page, targets) for name, page in shown.items()},
            "popularity": _recall(known.item_ids[popularity[:results]][None], targets),
            "chance": results / known.n_items,
        },
        f"recall_{retrieved}": {
            "retrieve": _recall(candidates, targets),
            "popularity": _recall(known.item_ids[popularity[:retrieved]][None], targets),
            "chance": retrieved / known.n_items,
        },
        "share_of_places": {name: float(np.isin(page, new_ids).mean()) for name, page in shown.items()},
        "new_items_shown": {name: len(np.intersect1d(page, new_ids)) for name, page in shown.items()},
    }


def _ask(pipeline: Pipeline, release: Release, users: int, diversity: float) -> dict[str, NDArray[Any]]:
    requests = requests_of(np.arange(users), release.sizes, diversity)
    parts = [
        pipeline({name: rows[begin : begin + BATCH] for name, rows in requests.items()})
        for begin in range(0, users, BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in ("item_id", "candidate")}


def _recall(lists: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
    """How many of `targets` ``[n]`` are in their own one of `lists` ``[n or 1, k]``."""
    return float((lists == targets[:, None]).any(axis=1).mean())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bench_new_items.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the build's TOML file")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the draw and of the build")
    parser.add_argument("--share", type=float, default=0.05, help="of the items that are new (default: 0.05)")
    parser.add_argument(
        "--output", type=Path, default=Path("build/bench/new-items"), metavar="DIR", help="for what is built"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
