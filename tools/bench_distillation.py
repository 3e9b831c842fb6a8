"""Does a teacher help the small retriever? Trained with and without one, measured on validation items."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from tools.config.build import BuildConfig, ConfigError, load_config
from tools.config.training import DistilConfig
from tools.data.dataset import load_dataset
from tools.data.problems import DataProblems
from tools.data.split import leave_one_out
from tools.evaluation.metrics import ndcg, paired_ratio, recall
from tools.progress import Steps
from tools.training.features import Features
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import HeldOut, target_ranks
from tools.training.teacher import Teacher

EXAMPLES = """\
examples:
  python tools/train_large.py --config tools/config/movielens-100k-teacher.toml --validate
  python tools/bench_distillation.py --config tools/config/movielens-100k.toml \\
      --teacher build/large/movielens-100k-teacher-validate/model.pt
  python tools/bench_distillation.py --config mine.toml --teacher model.pt --weight 0.3 0.7 --seeds 1 2 3

Each user's newest event stays out of it; the one before it is what is measured on. Ratios are to the models
that were trained without a teacher, paired by user, each user's figure being the mean over the seeds.

exit status: 0 done, 2 the configuration, the teacher or the data need a change
"""
Ranks = NDArray[np.int64]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        figures = _measure(load_config(options.config), options)
    except ValidationError as error:
        problem = error.errors()[0]
        print(f"--{problem['loc'][0]}: found {problem['input']}; allowed: {problem['msg']}", file=sys.stderr)
        return 2
    except (ConfigError, DataProblems) as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def _measure(config: BuildConfig, options: argparse.Namespace) -> dict[str, Any]:
    torch.use_deterministic_algorithms(True)
    variants = [(weight, heat) for weight in options.weight for heat in options.temperature]
    console = Console(highlight=False)
    steps = Steps(1 + len(options.seeds) * (1 + len(variants)), console)
    settings = [
        DistilConfig(teacher=options.teacher, weight=weight, temperature=heat) for weight, heat in variants
    ]
    retrieve = config.retrieve.model_copy(update={"distil": None})
    if options.epochs:
        retrieve = retrieve.model_copy(update={"epochs": options.epochs})
    history = config.sizes.history
    with steps.step("reading the data and the teacher"):
        dataset = load_dataset(config)
        features, split = Features.of(dataset, config), leave_one_out(dataset.interactions)
        held_out = HeldOut(split.train, split.validation)
        teachers: list[Teacher | None] = [None]
        teachers += [Teacher.open(setting, dataset, held_out=2) for setting in settings]
        wise = teachers[1]
        assert wise is not None
        alone = target_ranks(wise.model, held_out, wise.features, wise.history)
    names = ["without a teacher", *(f"weight {weight:g}, temperature {heat:g}" for weight, heat in variants)]
    found: dict[str, list[Ranks]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for seed in options.seeds:
        for name, teacher in zip(names, teachers, strict=True):
            begin = time.monotonic()
            with steps.step(f"seed {seed}, {name}") as update:
                model, _ = train_retriever(
                    split.train,
                    features,
                    retrieve,
                    history=history,
                    seed=seed,
                    teacher=teacher,
                    progress=update,
                )
            seconds[name].append(time.monotonic() - begin)
            found[name].append(target_ranks(model, held_out, features, history))
    table = Table(
        "retriever on validation items", "NDCG@10", "÷ without", "Recall@500", "÷ without", "seconds"
    )
    figures: dict[str, Any] = {"users": len(alone), "seeds": options.seeds}
    figures["the teacher itself"] = _add(table, "the teacher itself", [alone], found[names[0]], [])
    for name in names:
        figures[name] = _add(table, name, found[name], found[names[0]], seconds[name])
    console.print(table)
    return figures


def _add(
    table: Table, name: str, ranks: list[Ranks], baseline: list[Ranks], seconds: list[float]
) -> dict[str, Any]:
    """Put a row into `table`; its figures."""
    figures: dict[str, Any] = {
        "seconds": float(np.mean(seconds)) if seconds else None,
        "ranks": [each.tolist() for each in ranks],
    }
    cells = []
    for metric, k in ((ndcg, 10), (recall, 500)):
        one, other = (np.mean([metric(each, k) for each in of], axis=0) for of in (ranks, baseline))
        ratio = paired_ratio(one, other)
        figures[f"{metric.__name__}_{k}"] = float(one.mean())
        figures[f"{metric.__name__}_{k}_ratio"] = asdict(ratio)
        same = ranks is baseline
        cells += [
            f"{one.mean():.4f}",
            "" if same else f"{ratio.mean:.3f} ({ratio.low:.3f} … {ratio.high:.3f})",
        ]
    table.add_row(name, *cells, f"{figures['seconds']:.0f}" if seconds else "")
    return figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bench_distillation.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="of the small model")
    parser.add_argument(
        "--teacher", type=Path, required=True, metavar="FILE", help="what train_large.py --validate wrote"
    )
    parser.add_argument("--weight", type=float, nargs="+", default=[0.5], help="of the teacher's word")
    parser.add_argument("--temperature", type=float, nargs="+", default=[2.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, help="instead of the file's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
