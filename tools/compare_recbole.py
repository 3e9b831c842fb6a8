"""Our models against RecBole's: the same events, the same question, lists judged by one scorer."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tools.config.build import BuildConfig, ConfigError, load_config
from tools.data.dataset import load_dataset
from tools.data.fetch import FetchError, fetch_missing
from tools.data.interactions import Interactions
from tools.data.problems import DataProblems
from tools.data.split import leave_one_out
from tools.environment import NoEnvironmentError, prepare
from tools.evaluation.baselines import top_k
from tools.evaluation.metrics import Floats, Ints, Items, hit_rate, ndcg, paired_bootstrap, ranks, recall
from tools.machine import machine
from tools.progress import Steps
from tools.recbole.ours import NEUMF, NEUMF_ALONE, PLACES, TRANSFORMER, Ours
from tools.recbole.trainings import TRAININGS, Job, Training, read_scores, write_events
from tools.releases.manifest import combined_hash
from tools.training.features import Features

DESCRIPTION = """\
Trains RecBole's models and ours on the same events and compares what they recommend.

Both learn from all events but each user's last, which is the test, and are asked for the best 500 items that
the user has not met. RecBole chooses its settings and its number of epochs on each user's last event but one,
then learns from that one, too. Scores become lists, and lists become figures, in one place: here.

The first run installs RecBole into --work (1.6 GB) and trains its models: on one core an hour for GRU4Rec
and one for SASRec, on a GPU that its PyTorch can use minutes. What was trained is kept there, so that later
runs take minutes.
"""
EXAMPLES = """\
examples:
  python tools/compare_recbole.py
  python tools/compare_recbole.py --only EASE --only ItemKNN --only Pop
  python tools/compare_recbole.py --trained      # what RecBole has trained so far, and nothing else

exit status: 0 compared, 1 RecBole could not be installed or did not train, 2 the configuration, the data or
the arguments need a change
"""
OK, FAILED, BAD_INPUT = 0, 1, 2
JSON = "comparison.json"
FIGURES: dict[str, tuple[str, Callable[[Ints], Floats]]] = {
    "ndcg_10": ("NDCG@10", lambda found: ndcg(found, 10)),
    "hit_rate_10": ("HR@10", lambda found: hit_rate(found, 10)),
    "recall_100": ("Recall@100", lambda found: recall(found, 100)),
    "recall_500": ("Recall@500", lambda found: recall(found, PLACES)),
}
"""What lists are compared by: the name in the file, the one for people, and the figure per user."""
TRAINER = Path(__file__).parent / "recbole" / "train.py"
REQUIREMENTS = TRAINER.with_name("requirements.txt")


class TrainingFailed(RuntimeError):
    """RecBole did not train a model; the message says where to look."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        config = load_config(options.config)
        fetch_missing(config.data.events.path, console.print)
        dataset = load_dataset(config)
        chosen = [each for each in TRAININGS if not options.only or each.model in options.only]
    except (ConfigError, DataProblems, FetchError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    interactions = dataset.interactions
    work = options.work / events_hash(interactions)
    try:
        if not options.trained:
            python = prepare(options.work / "venv", REQUIREMENTS, console.print, of="RecBole (1.6 GB)")
            write_events(interactions, work / "data")
            for training in chosen:
                train(training, python, work, config, interactions, console)
    except (NoEnvironmentError, TrainingFailed) as error:
        print(f"compare_recbole.py: {error}", file=sys.stderr)
        return FAILED
    chosen = [each for each in chosen if (work / f"{each.model}.npy").is_file()]
    if not chosen:
        print(f"compare_recbole.py: {work} holds no scores; run without --trained", file=sys.stderr)
        return FAILED
    ours = Ours(config, dataset, Features.of(dataset, config))
    pairs, steps = {}, Steps(len(chosen), console)
    neural: dict[str, Items] = {}
    for training in chosen:
        scores = read_scores(work / f"{training.model}.npy", interactions.n_users, interactions.n_items)
        theirs = lists_of(scores, leave_one_out(interactions).train_and_validation, config.seed)
        with steps.step(f"our {training.ours}") as update:
            if training.ours in (TRANSFORMER, NEUMF):
                neural = neural or ours.neural(update)
                mine = {training.ours: neural[training.ours]}
                if training.ours == NEUMF:
                    mine[NEUMF_ALONE] = ours.neumf_alone(update)
            else:
                mine = {training.ours: ours.lists(training.ours, update)}
        for name, ranked in mine.items():
            pairs[training.model, name] = (ranked, theirs)
    targets = leave_one_out(interactions).test
    report = {
        "machine": machine(),
        "events": interactions.n_events,
        "test_users": int(np.count_nonzero(targets)),
        "seed": config.seed,
        "rows": [
            {"recbole": model, "ours": name, **compared(ranked, theirs, targets), **_receipt(work, model)}
            for (model, name), (ranked, theirs) in pairs.items()
        ],
    }
    text = json.dumps(report, indent=2, ensure_ascii=False)
    (work / JSON).write_text(text + "\n", encoding="utf-8")
    print("\n".join(table(report)))
    console.print(f"figures: {work / JSON}")
    return OK


def events_hash(interactions: Interactions) -> str:
    """Which events these are: what was trained on others is not used again."""
    parts = (interactions.offsets, interactions.items)
    return combined_hash([array.tobytes().hex() for array in parts])[:12]


def train(
    training: Training,
    python: Path,
    work: Path,
    config: BuildConfig,
    interactions: Interactions,
    console: Console,
) -> None:
    """Let RecBole train a model where its scores are not there yet. Raises TrainingFailed."""
    scores, log = work / f"{training.model}.npy", work / f"{training.model}.log"
    if scores.is_file():
        return
    job = Job(
        model=training.model,
        epochs=training.epochs,
        patience=training.patience,
        settings=training.settings,
        data=str((work / "data").resolve()),
        users=interactions.n_users,
        items=interactions.n_items,
        history=config.sizes.history,
        seed=config.seed,
        scores=str(scores.resolve()),
        receipt=str((work / f"{training.model}.json").resolve()),
    )
    job.write(work / f"{training.model}-job.json")
    console.print(f"RecBole trains {training.model}")
    command = [str(python), "-W", "ignore", str(TRAINER.resolve()), f"{training.model}-job.json"]
    said = time.monotonic()
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if line.startswith(f"{training.model} ") and time.monotonic() - said > 20:
                said = time.monotonic()
                console.print(f"[dim]{line.strip()}[/dim]")
    if process.returncode or not scores.is_file():
        raise TrainingFailed(f"RecBole did not train {training.model}; {log} says why")


def lists_of(scores: NDArray[np.float32], histories: Interactions, seed: int) -> Items:
    """The best 500 unseen items by `scores` ``[U, I + 1]``, int32 ``[U, 500]``; ties in a random order."""
    scores = scores.copy()
    scores[histories.to_csr().nonzero()] = -np.inf
    scores[:, 0] = -np.inf
    tie_key = np.random.default_rng(seed).permutation(scores.shape[1]).astype(np.int64)
    best = top_k(scores, PLACES, tie_key)
    found = np.take_along_axis(scores, best, axis=1) > -np.inf
    return np.where(found, best, 0).astype(np.int32)


def compared(ours: Items, theirs: Items, targets: NDArray[np.int32]) -> dict[str, Any]:
    """Both sides' figures, and the differences, ours minus theirs, with paired 95 % intervals."""
    mine, other = ranks(ours, targets), ranks(theirs, targets)
    row: dict[str, Any] = {}
    for key, (_, figure) in FIGURES.items():
        difference = paired_bootstrap(figure(mine), figure(other))
        row[key] = {
            "ours": float(figure(mine).mean()),
            "theirs": float(figure(other).mean()),
            "difference": asdict(difference),
        }
    return row


def verdict(difference: dict[str, float]) -> str:
    """What an interval of a difference says."""
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "within noise"


def table(report: dict[str, Any]) -> list[str]:
    """The rows as a Markdown table."""
    lines = [
        "| RecBole | ours | figure | RecBole's | ours | ours − RecBole's (paired 95 %) | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["rows"]:
        for place, (key, (name, _)) in enumerate(FIGURES.items()):
            gap = row[key]["difference"]
            cells = [
                "" if place else row["recbole"],
                "" if place else row["ours"],
                name,
                f"{row[key]['theirs']:.4f}",
                f"{row[key]['ours']:.4f}",
                f"{gap['mean']:+.4f} ({gap['low']:+.4f} … {gap['high']:+.4f})".replace("-", "−"),
                verdict(gap),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _receipt(work: Path, model: str) -> dict[str, Any]:
    path = work / f"{model}.json"
    return {"training": json.loads(path.read_text(encoding="utf-8"))} if path.is_file() else {}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/compare_recbole.py",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("tools/config/movielens-100k.toml"),
        metavar="FILE",
        help="the data, and the settings of our models (default: %(default)s)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/recbole"),
        metavar="DIR",
        help="where RecBole is installed and its scores are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[training.model for training in TRAININGS],
        help="compare this of RecBole's models; may be given several times (default: all)",
    )
    parser.add_argument(
        "--trained", action="store_true", help="train nothing of RecBole's; compare what is there"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
