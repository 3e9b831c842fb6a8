"""Whether merging channels pays after ranking: one channel with its ranker against several with theirs.

One validation item of each user says little: an interval of NDCG@10 is then wider than what merging gains. So
channels learn from everybody's older events here, and every newer one is asked for, with what its user had
done until then. Merge and rankers learn from the newer events of some users and are judged by those of the
others, group by group, until all were judged. The test items, each user's last, stay out of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from tools.channels.fitting import fit_channels, write_transformer
from tools.channels.merged import Channels, merged_examples, plain_merge
from tools.channels.merging import fit_merge
from tools.channels.registry import MODULES
from tools.checks import CheckFailed
from tools.config.build import BuildConfig, ConfigError, load_config
from tools.data.dataset import Dataset, load_dataset
from tools.data.fetch import FetchError, fetch_missing
from tools.data.problems import DataProblems
from tools.data.split import leave_one_out
from tools.evaluation.metrics import ABSENT, ndcg, paired_bootstrap, recall
from tools.machine import machine
from tools.progress import Steps
from tools.releases.slots import folded, material_of, retrieval_of
from tools.training.candidates import rows_of
from tools.training.evidence import Neighbours
from tools.training.features import Features
from tools.training.rank_training import rank_logits, target_places, train_ranker
from tools.training.retrieve_training import train_retriever

EXAMPLES = """\
examples:
  python tools/bench_merging.py --config tools/config/movielens-100k.toml
  python tools/bench_merging.py --config mine.toml --channels transformer,ease,popularity --evidence 0.3

exit status: 0 done, 1 a channel cannot be served, 2 the configuration, the data or the arguments need a
change
"""
OK, FAILED, BAD_INPUT = 0, 1, 2
TRANSFORMER = "transformer"
CHANNELS = "transformer,gru,ease"
EVIDENCE = 0.15
SINGLE, MERGED = "one channel", "merged"
STAGES = ("retrieved", "ranked")
Places = NDArray[np.int64]
FIGURES: dict[str, Callable[[Places], NDArray[np.float64]]] = {
    "NDCG@10": lambda places: ndcg(places, 10),
    "recall": lambda places: recall(places, ABSENT),
}
"""Of the places of the items that came next, 0 the first: NDCG@10, and how many are in the list at all."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    # Wide where nobody looks: a table that is cut off cannot be read later.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    try:
        config = load_config(options.config)
        single, merged = configurations(config, options.channels, options.evidence)
        fetch_missing(config.data.events.path, console.print)
        figures = {
            "channels": options.channels,
            "evidence": {SINGLE: single.rank.evidence, MERGED: merged.rank.evidence},
            "candidates": config.sizes.candidates,
            "seed": config.seed,
            "machine": machine(),
            **measure(
                single, merged, load_dataset(config), options.groups, Steps(4 + 3 * options.groups, console)
            ),
        }
    except (ConfigError, DataProblems, FetchError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except CheckFailed as error:
        print(f"bench_merging.py: {error}", file=sys.stderr)
        return FAILED
    _show(figures, console)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return OK


def configurations(
    config: BuildConfig, channels: Sequence[str], evidence: float
) -> tuple[BuildConfig, BuildConfig]:
    """That of one channel, and that of `channels` which each find as many items as there are candidates.

    Raises ConfigError where `config` names channels or rankers itself, or those given cannot be merged.
    """
    if config.channels or config.rankers:
        raise ConfigError(
            ["channels, rankers: found some; give a file without any, and say with --channels what to merge"]
        )
    sections = [{"model": model, "quota": config.sizes.candidates} for model in channels]
    content = config.model_dump(exclude_unset=True)
    ranked = {**content.get("rank", {}), "evidence": evidence}
    try:
        return config, BuildConfig.model_validate({**content, "channels": sections, "rank": ranked})
    except ValidationError as error:
        raise ConfigError([str(problem["msg"]) for problem in error.errors()]) from error


def measure(
    single: BuildConfig, merged: BuildConfig, dataset: Dataset, groups: int, steps: Steps
) -> dict[str, Any]:
    """Figures of both configurations, before and after ranking, and merged minus single, over users."""
    features = Features.of(dataset, single)
    interactions = leave_one_out(dataset.interactions).train_and_validation
    older, events = folded(interactions, single)
    past = replace(material_of(merged, dataset, interactions, features), interactions=older)
    neighbours = Neighbours.of(older, single.rank.neighbours)
    with steps.step("training a retriever of older events") as update:
        retriever, _ = train_retriever(
            older,
            features,
            single.retrieve,
            history=single.sizes.history,
            seed=single.seed,
            progress=update,
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with steps.step("fitting the other channels to them") as update:
            fit_channels(merged.channels, past, merged.sizes, folder, update)
            write_transformer(merged.channels, retriever, features, merged.sizes, folder)
        with steps.step(f"asking the channels for {len(events):,} newer events"):
            channels = Channels(folder, merged.channels)
            lists = list(channels.before(interactions, features, events, merged.sizes))
    with steps.step("asking the one channel"):
        alone = retrieval_of(single, retriever, features, folder)(interactions, events)
    plain = plain_merge(merged.channels, merged.merge.constant, merged.sizes.candidates)
    group_of = np.random.default_rng(single.seed).permutation(interactions.n_users) % groups
    places: dict[tuple[str, str], list[Places]] = {}
    users = []
    for group in range(groups):
        with steps.step(f"group {group + 1} of {groups}: merging"):
            others = [part.rows_of(group_of[part.users] != group) for part in lists]
            merge = fit_merge(plain, others, learned=merged.merge.method == "learned")
            together = merged_examples(merge, lists, merged.sizes)
        judged = group_of[alone.users] == group
        users.append(alone.users[judged])
        for name, config, examples in ((SINGLE, single, alone), (MERGED, merged, together)):
            with steps.step(f"group {group + 1} of {groups}: ranking, {name}") as update:
                ranker, _ = train_ranker(
                    rows_of(examples, ~judged),
                    features,
                    config.rank,
                    history=config.sizes.history,
                    seed=config.seed,
                    neighbours=neighbours,
                    progress=update,
                )
                asked = rows_of(examples, judged)
                logits = rank_logits(ranker, asked, features)
            places.setdefault((name, "retrieved"), []).append(target_places(asked.scores, asked))
            places.setdefault((name, "ranked"), []).append(target_places(logits, asked))
    return compared({key: np.concatenate(parts) for key, parts in places.items()}, np.concatenate(users))


def compared(places: Mapping[tuple[str, str], Places], users: NDArray[np.int64]) -> dict[str, Any]:
    """Figures of both by stage, and merged minus one channel with its paired 95 % interval over users.

    `places` int64 ``[n]`` are those of the items that came next, of the `users` int64 ``[n]``. Each user
    counts once, however many events there are of one.
    """
    found: dict[str, Any] = {"users": len(np.unique(users)), "events": len(users)}
    for stage in STAGES:
        for name, figure in FIGURES.items():
            single, merged = (means_of_users(figure(places[way, stage]), users) for way in (SINGLE, MERGED))
            found[f"{stage} {name}"] = {
                SINGLE: float(single.mean()),
                MERGED: float(merged.mean()),
                "difference": asdict(paired_bootstrap(merged, single)),
            }
    return found


def means_of_users(values: NDArray[np.float64], users: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of the `values` ``[n]`` of each of the `users` ``[n]``, by ascending user."""
    _, user = np.unique(users, return_inverse=True)
    means: NDArray[np.float64] = np.bincount(user, values) / np.bincount(user)
    return means


def _show(figures: dict[str, Any], console: Console) -> None:
    title = (
        f"{figures['events']:,} events of {figures['users']} users, each judged by a ranker of others;"
        f" {figures['candidates']} candidates, one seed"
    )
    table = Table(
        "", SINGLE, " + ".join(figures["channels"]), "difference (95 %, paired by user)", title=title
    )
    for stage in STAGES:
        for name in FIGURES:
            row = figures[f"{stage} {name}"]
            gap = row["difference"]
            table.add_row(
                f"{stage}: {name}",
                f"{row[SINGLE]:.4f}",
                f"{row[MERGED]:.4f}",
                f"{gap['mean']:+.4f} ({gap['low']:+.4f} … {gap['high']:+.4f})",
            )
    console.print(table)
    console.print(figures["machine"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bench_merging.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="data, transformer and ranker"
    )
    parser.add_argument(
        "--channels",
        type=_channels,
        default=CHANNELS.split(","),
        metavar="A,B",
        help=f"what is merged, with the transformer among them; default: {CHANNELS}",
    )
    parser.add_argument(
        "--evidence",
        type=float,
        default=EVIDENCE,
        metavar="WEIGHT",
        help=f"[rank] evidence of the merged list's ranker; default: {EVIDENCE}",
    )
    parser.add_argument(
        "--groups", type=int, choices=range(2, 11), default=4, metavar="N", help="of users; default: 4"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


def _channels(text: str) -> list[str]:
    models = text.split(",")
    if unknown := [model for model in models if model not in (TRANSFORMER, *MODULES)]:
        allowed = ", ".join((TRANSFORMER, *MODULES))
        raise argparse.ArgumentTypeError(f"found {unknown[0]!r}; allowed are {allowed}, between commas")
    if TRANSFORMER not in models or len(set(models)) < len(models):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed is each once, the transformer among them")
    return models


if __name__ == "__main__":
    sys.exit(main())
