"""Does robust training help? Retrievers with and without it, asked with histories that are not right."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from tools.arguments import above_zero, seed
from tools.config.build import BuildConfig, ConfigError, load_config, require_teacher
from tools.config.training import RobustConfig
from tools.data.dataset import load_dataset
from tools.data.problems import DataProblems
from tools.data.split import leave_one_out
from tools.evaluation.metrics import Interval, mean_interval, ndcg, paired_bootstrap, recall
from tools.evaluation.perturbations import PERTURBATIONS
from tools.evaluation.style import INK, applied, legend_below, new_figure, to_svg
from tools.progress import Steps
from tools.training.features import Features
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import HeldOut, target_ranks
from tools.training.teacher import teacher_of
from tools.training.windows import last_histories

EXAMPLES = """\
examples:
  python tools/bench_robustness.py --config tools/config/movielens-100k.toml
  python tools/bench_robustness.py --config mine.toml --epochs 5 --epsilon 0.05 0.1 0.2
  python tools/bench_robustness.py --config mine.toml --smoothing 0.05 0.1 --epsilon --history-dropout

Each user's newest event stays out of it; the one before it is what is measured on. Differences are to the
retriever that was trained as usual, paired by user, each user's figure being the mean over the seeds. The
adversary comes in with the second half of the epochs. Five trainings by default: about 12 minutes on
MovieLens 100K with two cores, and far longer beside other work.

exit status: 0 done, 2 the configuration or the data need a change
"""
OK, BAD_INPUT = 0, 2
USUAL, CLEAN = "as usual", "as it was"
METRICS = {"ndcg_10": ("NDCG@10", ndcg, 10), "recall_500": ("Recall@500", recall, 500)}
COLOURS = ("#0059a3", "#c9470a", "#008a63", "#a6487f", "#7a5c3e")
MARKERS = "osD^vPX"
"""Of the trainings, in turn; together they tell 35 apart."""
Ranks = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """What one way of training gave.

    Attributes:
        keys: of the section [retrieve.robust].
        ranks: by the name of the histories, for each seed, where each user's target stands.
        seconds: of a training, the mean.
    """

    keys: dict[str, float]
    ranks: dict[str, list[Ranks]]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        config = load_config(options.config)
        if options.epochs:
            retrieve = config.retrieve.model_copy(update={"epochs": options.epochs})
            config = config.model_copy(update={"retrieve": retrieve})
        require_teacher(config)
        variants = {
            name: RobustConfig.model_validate(keys)
            for name, keys in _variants(options, config.retrieve.epochs).items()
        }
        outcomes = _train_all(config, variants, options.seeds, Console(highlight=False))
    except ValidationError as error:
        problem = error.errors()[0]
        print(f"{problem['loc'] or ''}: found {problem['input']}; {problem['msg']}", file=sys.stderr)
        return BAD_INPUT
    except (ConfigError, DataProblems) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    figures = figures_of(outcomes)
    _show(figures, Console(highlight=False))
    options.output.mkdir(parents=True, exist_ok=True)
    content = {"seeds": options.seeds, "epochs": config.retrieve.epochs, "trained": figures}
    for name, text in (("json", json.dumps(content, indent=1)), ("svg", plot(figures))):
        path = options.output / f"robustness.{name}"
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(text + "\n", encoding="utf-8")
        fresh.replace(path)
        print(path)
    return OK


def _variants(options: argparse.Namespace, epochs: int) -> dict[str, dict[str, float]]:
    """The sections to train with, by what they are called."""
    adversary = {"adversarial_weight": options.weight, "adversarial_from_epoch": epochs // 2 + 1}
    found: dict[str, dict[str, float]] = {USUAL: {}}
    together: dict[str, float] = {}
    for key, label, values in (
        ("adversarial_epsilon", "adversary", options.epsilon),
        ("label_smoothing", "smoothing", options.smoothing),
        ("history_dropout", "history dropout", options.history_dropout),
    ):
        for value in values:
            found[f"{label} {value:g}"] = {key: value} | (adversary if label == "adversary" else {})
        if values:
            together |= found[f"{label} {values[0]:g}"]
    if sum(map(bool, (options.epsilon, options.smoothing, options.history_dropout))) > 1:
        found["together"] = together
    return found


def _train_all(
    config: BuildConfig, variants: dict[str, RobustConfig], seeds: Sequence[int], console: Console
) -> dict[str, Outcome]:
    torch.use_deterministic_algorithms(True)
    steps = Steps(1 + len(seeds) * len(variants), console)
    history = config.sizes.history
    with steps.step("reading the data"):
        dataset = load_dataset(config)
        features, split = Features.of(dataset, config), leave_one_out(dataset.interactions)
        teacher = teacher_of(config, dataset, held_out=2)
        held_out = HeldOut(split.train, split.validation)
        clean = last_histories(split.train, history)
        histories = {CLEAN: clean}
        for name, perturb in PERTURBATIONS.items():
            random = np.random.default_rng(config.seed)
            histories[name] = perturb(clean, split.validation, split.train.n_items, random)
    ranks: dict[str, dict[str, list[Ranks]]] = {name: {each: [] for each in histories} for name in variants}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in seeds:
        for name, robust in variants.items():
            begin = time.monotonic()
            with steps.step(f"seed {number}, {name}") as update:
                model, _ = train_retriever(
                    split.train,
                    features,
                    config.retrieve.model_copy(update={"robust": robust}),
                    history=history,
                    seed=number,
                    teacher=teacher,
                    progress=update,
                )
            seconds[name].append(time.monotonic() - begin)
            for each, seen in histories.items():
                ranks[name][each].append(target_ranks(model, held_out, features, history, histories=seen))
    return {
        name: Outcome(robust.model_dump(exclude_defaults=True), ranks[name], float(np.mean(seconds[name])))
        for name, robust in variants.items()
    }


def figures_of(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Every metric by training and histories, with its interval and the difference to the usual training."""
    usual = outcomes[USUAL]
    found: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        found[name] = {"robust": outcome.keys, "seconds": outcome.seconds, "histories": {}}
        for each in outcome.ranks:
            row = found[name]["histories"][each] = {}
            for key, (_, metric, k) in METRICS.items():
                one, other = (
                    np.mean([metric(ranks, k) for ranks in of.ranks[each]], axis=0) for of in (outcome, usual)
                )
                row[key] = mean_interval(one).to_dict()
                row[f"{key}_difference"] = paired_bootstrap(one, other).to_dict()
    return found


def _show(figures: dict[str, Any], console: Console) -> None:
    labels = [label for label, _, _ in METRICS.values()]
    columns = [text for label in labels for text in (label, "difference (95 %)")]
    table = Table("trained", "history", *columns, title="the retriever on validation items")
    for name, outcome in figures.items():
        for place, (each, row) in enumerate(outcome["histories"].items()):
            cells = []
            for key in METRICS:
                difference = Interval(**row[f"{key}_difference"])
                interval = f"{difference.mean:+.4f} ({difference.low:+.4f} … {difference.high:+.4f})"
                cells += [f"{row[key]['mean']:.4f}", "" if name == USUAL else interval]
            first, last = place == 0, place + 1 == len(outcome["histories"])
            table.add_row(name if first else "", each, *cells, end_section=last)
    console.print(table)
    seconds = ", ".join(f"{name} {outcome['seconds']:.0f}" for name, outcome in figures.items())
    console.print(f"seconds of training: {seconds}")


def plot(figures: dict[str, Any]) -> str:
    """The differences to the usual training with their intervals, as an SVG document."""
    names = list(figures[USUAL]["histories"])
    shown = [name for name in figures if name != USUAL]
    with applied():
        figure, axes = new_figure(rows=len(METRICS), width=8.0, height=6.4)
        for place, (key, (label, _, _)) in zip(axes, METRICS.items(), strict=True):
            for number, name in enumerate(shown):
                rows = [figures[name]["histories"][each][f"{key}_difference"] for each in names]
                x = np.arange(len(names)) + 0.7 * ((number + 0.5) / len(shown) - 0.5)
                mean, low, high = (np.array([row[part] for row in rows]) for part in ("mean", "low", "high"))
                place.errorbar(
                    *(x, mean, [mean - low, high - mean]),
                    fmt=MARKERS[number % len(MARKERS)],
                    color=COLOURS[number % len(COLOURS)],
                    capsize=3,
                    label=name,
                )
            place.axhline(0, color=INK, linestyle=":", linewidth=1.2)
            usual = [figures[USUAL]["histories"][each][key]["mean"] for each in names]
            ticks = [f"{each}\n{value:.4f}" for each, value in zip(names, usual, strict=True)]
            place.set_xticks(range(len(names)), ticks)
            place.grid(axis="x", visible=False)
            place.set_ylabel(f"{label}: difference to\ntraining as usual, 95 %")
        axes[0].set_title("below each history: what training as usual has", fontsize=10, loc="left")
        legend_below(figure, axes[0])
        return to_svg(figure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bench_robustness.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the build's TOML file")
    parser.add_argument("--epochs", type=above_zero, metavar="N", help="instead of the file's")
    parser.add_argument("--seeds", type=seed, nargs="+", default=[1], metavar="N")
    parser.add_argument(
        "--epsilon", type=float, nargs="*", default=[0.1], help="the adversary's steps (default: 0.1)"
    )
    parser.add_argument("--weight", type=float, default=1.0, help="of the adversary's loss (default: 1)")
    parser.add_argument("--smoothing", type=float, nargs="*", default=[0.1], help="of labels (default: 0.1)")
    parser.add_argument(
        "--history-dropout", type=float, nargs="*", default=[0.2], help="share hidden (default: 0.2)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("build/bench/robustness"), metavar="DIR", help="for JSON and plot"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
