"""What each retrieval channel finds of the validation items, how long fitting takes, and how long answering.

Each channel learns from everybody's events without the last two and is asked for the last but one; the test
items stay out of it. It is written as for a release and answers from those files. Times are medians for one
user at a time, in this process; what else the machine does is in them.

With --removed, channels learn instead without a share of the items, and the table says how many of those
they find again of each user's, against chance. With --made-up, there is no configuration but a made-up
catalogue of any size with as many users, of which only times and sizes say anything.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from tritonrec_client.contract import Sizes

from python_backend.features import FeatureEncoder
from python_backend.stages.retrieve import Retrieve
from tools.arguments import above_zero
from tools.channels.channel import Material
from tools.channels.registry import MODULES, fit_channel
from tools.checks import CheckFailed
from tools.config.build import ConfigError, load_config
from tools.config.channels import ChannelConfig
from tools.data.dataset import load_dataset
from tools.data.interactions import Interactions
from tools.data.problems import DataProblems
from tools.data.split import leave_one_out
from tools.evaluation.metrics import hit_rate, ndcg, ranks
from tools.evaluation.removed_items import RemovedItems
from tools.progress import Steps
from tools.synthetic.histories import GROUPS, draw_histories
from tools.training.features import Features
from tools.training.retriever import Progress
from tools.training.windows import histories_before

EXAMPLES = """\
examples:
  python tools/bench_channels.py --config tools/config/movielens-100k.toml
  python tools/bench_channels.py --config mine.toml --models ease,user_knn --seeds 1,2 --json channels.json
  python tools/bench_channels.py --config mine.toml --models content --removed 0.2 --seeds 1,2,3
  python tools/bench_channels.py --made-up 100000 --models item_knn,user_knn,popularity

exit status: 0 done, 1 a channel cannot be fitted or served, 2 the configuration or the data need a change
"""
OK, FAILED, BAD_INPUT = 0, 1, 2
MEMORY = ("item_knn", "ease", "user_knn", "content", "popularity")
BATCH = 64
ASKED = 300
Lists = NDArray[np.int32]
Users = NDArray[np.int64]
Accuracy = Callable[[Lists], dict[str, float]]
"""Figures of all users' lists, int32 ``[U, K]``, by name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    console = Console(highlight=False)
    steps = Steps(len(options.models) * len(options.seeds), console)
    rows: list[dict[str, Any]] = []
    try:
        for seed in options.seeds:
            sizes, asked = _made_up(options.made_up, seed) if options.made_up else _validation(options, seed)
            for model in options.models:
                with steps.step(f"{model}, seed {seed}") as update:
                    rows.append({"model": model, "seed": seed, **_figures(model, asked, sizes, update)})
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


@dataclass(frozen=True)
class Question:
    """What channels learn from, and how good their lists are, where that means anything."""

    material: Material
    accuracy: Accuracy | None


def _validation(options: argparse.Namespace, seed: int) -> tuple[Sizes, Question]:
    """The configuration's data without its last events, or without some of its items."""
    config = load_config(options.config).model_copy(update={"seed": seed})
    dataset = load_dataset(config)
    split, features = leave_one_out(dataset.interactions), Features.of(dataset, config)
    sizes, titles, described = config.sizes, dataset.item_titles, dataset.item_features

    def question(history: Interactions, accuracy: Accuracy) -> Question:
        return Question(Material(history, features, titles, sizes.history, seed, {}, described), accuracy)

    def validation(lists: Lists) -> dict[str, float]:
        found = ranks(lists, split.validation)
        figures = {"recall_500": hit_rate(found, 500), "recall_100": hit_rate(found, 100)}
        figures["ndcg_10"] = ndcg(found, 10)
        return {name: float(values.mean()) for name, values in figures.items()}

    if not options.removed:
        return sizes, question(split.train, validation)
    without = RemovedItems.of(split.train_and_validation, options.removed, seed)

    def removed(lists: Lists) -> dict[str, float]:
        recall, chance = without.recall(lists, 100)
        ratio = without.ratio(lists, 100)
        figures = {"recall_100": float(recall.mean()), "chance": float(chance.mean())}
        return {**figures, "ratio": ratio.mean, "ratio low": ratio.low, "ratio high": ratio.high}

    return sizes, question(without.kept, removed)


def _made_up(n_items: int, seed: int) -> tuple[Sizes, Question]:
    """As many users as items, in groups by Zipf's law, and nothing that is worth finding."""
    groups = np.random.default_rng(seed).integers(0, GROUPS, n_items).astype(np.int32)
    history = draw_histories(groups, n_items, seed)
    users = np.zeros((n_items, 1), np.int32)
    encoder = FeatureEncoder.fit([], [{}], 1)
    features = Features(users, np.zeros((n_items + 1, 1), np.int32), encoder, encoder)
    sizes = Sizes(candidates=min(500, n_items), history=50, user_features=1)
    titles = [f"item {item}" for item in range(n_items)]
    material = Material(history, features, titles, sizes.history, seed, {})
    return sizes, Question(material, None)


def _figures(model: str, question: Question, sizes: Sizes, progress: Progress) -> dict[str, float]:
    """One channel fitted, written, opened and asked."""
    section: ChannelConfig = TypeAdapter(ChannelConfig).validate_python({"model": model})
    started = time.perf_counter()
    channel = fit_channel(section, question.material, progress)
    figures = {"fit s": time.perf_counter() - started}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        channel.write(folder, sizes)
        figures["MB"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        stage = Retrieve.open(folder, candidates=sizes.candidates)
        figures["ms"] = _milliseconds(stage, question.material, sizes)
        if question.accuracy is not None:
            figures |= question.accuracy(_lists_of(stage, question.material, sizes))
    return figures


def _requests(material: Material, sizes: Sizes, users: Users) -> dict[str, Lists]:
    """What these users, rows of the material, ask."""
    events = material.interactions
    stops = events.offsets[users + 1]
    return {
        "user_features": material.features.users[users],
        "history": histories_before(events, users, stops, sizes.history),
        "seen": histories_before(events, users, stops, sizes.seen),
    }


def _lists_of(stage: Retrieve, material: Material, sizes: Sizes) -> Lists:
    """The list of each user, int32 ``[U, K]``."""
    everybody = np.arange(material.interactions.n_users)
    batches = np.split(everybody, range(BATCH, len(everybody), BATCH))
    return np.concatenate([stage(_requests(material, sizes, users))["candidate"] for users in batches])


def _milliseconds(stage: Retrieve, material: Material, sizes: Sizes) -> float:
    """The median of answering one user."""
    seconds = []
    for user in np.linspace(0, material.interactions.n_users - 1, ASKED).astype(np.int64):
        asked = _requests(material, sizes, np.array([user]))
        started = time.perf_counter()
        stage(asked)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) * 1000


def _show(rows: list[dict[str, Any]], options: argparse.Namespace, console: Console) -> None:
    asked = "items removed from training" if options.removed else "validation items"
    if options.made_up:
        asked = f"MADE UP: {options.made_up:,} items"
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
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--config", type=Path, metavar="FILE", help="the build's TOML file")
    data.add_argument(
        "--made-up", type=above_zero, metavar="ITEMS", help="a made-up catalogue of so many items instead"
    )
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
