"""What each retrieval channel finds of the validation items, how long fitting takes, and how long answering.

Each channel learns from everybody's events without the last two and is asked for the last but one; the test
items stay out of it. It is written as for a release and answers from those files. Times are medians for one
user at a time, in this process; what else the machine does is in them.

With --removed, channels learn instead without a share of the items, and the table says how many of those
they find again of each user's, against chance.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from python_backend.stages.retrieve import Retrieve
from tools.channels.channel import Material
from tools.channels.registry import MODULES, fit_channel
from tools.checks import CheckFailed
from tools.config.build import BuildConfig, ConfigError, load_config
from tools.config.channels import ChannelConfig
from tools.data.dataset import Dataset, load_dataset
from tools.data.interactions import Interactions
from tools.data.problems import DataProblems
from tools.data.split import leave_one_out
from tools.evaluation.metrics import hit_rate, ndcg, ranks
from tools.evaluation.removed_items import RemovedItems
from tools.progress import Steps
from tools.training.features import Features
from tools.training.windows import last_histories

EXAMPLES = """\
examples:
  python tools/bench_channels.py --config tools/config/movielens-100k.toml
  python tools/bench_channels.py --config mine.toml --models ease,user_knn --seeds 1,2 --json channels.json
  python tools/bench_channels.py --config mine.toml --models content --removed 0.2 --seeds 1,2,3

exit status: 0 done, 1 a channel cannot be fitted or served, 2 the configuration or the data need a change
"""
OK, FAILED, BAD_INPUT = 0, 1, 2
MEMORY = ("item_knn", "ease", "user_knn", "content", "popularity")
BATCH = 64
ASKED = 300
Lists = NDArray[np.int32]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    try:
        config = load_config(options.config)
        console = Console(highlight=False)
        steps = Steps(len(options.models) * len(options.seeds), console)
        rows = []
        for seed in options.seeds:
            seeded = config.model_copy(update={"seed": seed})
            dataset = load_dataset(seeded)
            for model in options.models:
                with steps.step(f"{model}, seed {seed}") as update:
                    section = TypeAdapter(ChannelConfig).validate_python({"model": model})
                    rows.append(_row(section, seeded, dataset, options.removed, update))
    except (ConfigError, DataProblems) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except CheckFailed as error:
        print(f"bench_channels.py: {error}", file=sys.stderr)
        return FAILED
    _show(rows, options, console)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return OK


def _row(
    section: ChannelConfig, config: BuildConfig, dataset: Dataset, removed: float | None, progress: Any
) -> dict[str, Any]:
    """One channel's figures: fitted, written, opened and asked."""
    split = leave_one_out(dataset.interactions)
    without = RemovedItems.of(split.train_and_validation, removed, config.seed) if removed else None
    history = without.kept if without else split.train
    features = Features.of(dataset, config)
    material = Material(
        history, features, dataset.item_titles, config.sizes.history, config.seed, {}, dataset.item_features
    )
    started = time.perf_counter()
    channel = fit_channel(section, material, progress)
    row: dict[str, Any] = {"model": section.model, "seed": config.seed}
    row["fit s"] = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        channel.write(folder, config.sizes)
        row["MB"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        stage = Retrieve.open(folder, candidates=config.sizes.candidates)
        lists = lists_of(stage, history, features, config)
        row["ms"] = _milliseconds(stage, history, features, config)
    if without:
        recall, chance = without.recall(lists, 100)
        ratio = without.ratio(lists, 100)
        row |= {"recall_100": recall.mean(), "chance": chance.mean(), "ratio": ratio.mean}
        return row | {"ratio low": ratio.low, "ratio high": ratio.high}
    found = ranks(lists, split.validation)
    accuracy = {"recall_500": hit_rate(found, 500), "recall_100": hit_rate(found, 100)}
    accuracy["ndcg_10"] = ndcg(found, 10)
    return row | {name: float(figures.mean()) for name, figures in accuracy.items()}


def lists_of(stage: Retrieve, history: Interactions, features: Features, config: BuildConfig) -> Lists:
    """The list of each user with this `history`, int32 ``[U, K]``."""
    asked = _requests(history, features, config)
    parts = [
        stage({name: array[begin : begin + BATCH] for name, array in asked.items()})["candidate"]
        for begin in range(0, history.n_users, BATCH)
    ]
    return np.concatenate(parts)


def _requests(history: Interactions, features: Features, config: BuildConfig) -> dict[str, Lists]:
    sizes = config.sizes
    seen = last_histories(history, sizes.seen)
    return {"user_features": features.users, "history": last_histories(history, sizes.history), "seen": seen}


def _milliseconds(stage: Retrieve, history: Interactions, features: Features, config: BuildConfig) -> float:
    """The median of answering one user."""
    asked, seconds = _requests(history, features, config), []
    for user in np.linspace(0, history.n_users - 1, ASKED).astype(int).tolist():
        one = {name: array[user : user + 1] for name, array in asked.items()}
        started = time.perf_counter()
        stage(one)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) * 1000


def _show(rows: list[dict[str, Any]], options: argparse.Namespace, console: Console) -> None:
    asked = "items removed from training" if options.removed else "validation items"
    table = Table(title=f"{asked}, means of seeds {', '.join(map(str, options.seeds))}")
    names = [name for name in rows[0] if name not in ("model", "seed")]
    for name in ("model", *names):
        table.add_column(name, justify="left" if name == "model" else "right")
    for model in options.models:
        own = [row for row in rows if row["model"] == model]
        means = {name: float(np.mean([row[name] for row in own])) for name in names}
        digits = {"fit s": 2, "MB": 1, "ms": 3, "ratio": 2, "ratio low": 2, "ratio high": 2}
        table.add_row(model, *(f"{means[name]:.{digits.get(name, 4)}f}" for name in names))
    console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bench_channels.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the build's TOML file")
    parser.add_argument(
        "--models", type=_models, default=list(MEMORY), metavar="A,B", help=f"default: {','.join(MEMORY)}"
    )
    parser.add_argument("--seeds", type=_seeds, default=[1], metavar="1,2", help="default: 1")
    parser.add_argument(
        "--removed", type=_share, metavar="SHARE", help="learn without so many of the items: above 0, below 1"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write each seed's figures there")
    return parser


def _models(text: str) -> list[str]:
    models = text.split(",")
    for model in models:
        if model not in MODULES:
            raise argparse.ArgumentTypeError(f"found {model!r}; allowed are {', '.join(MODULES)}")
    return models


def _seeds(text: str) -> list[int]:
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed are whole numbers between commas")
    return [int(part) for part in text.split(",")]


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed is a number above 0 and below 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
