"""Build a release from interaction data: features, training, ONNX, checks on a real Triton, report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from python_backend.stores import StoreUnavailable, open_store
from tools.arguments import above_zero, seed
from tools.checks import CheckFailed
from tools.config.build import BuildConfig, ConfigError, StoreConfig, load_config, require_teacher
from tools.config.compression import VARIANTS
from tools.config.gpu import Profile
from tools.data.fill import fill
from tools.data.problems import DataProblems
from tools.data.store import holds_user
from tools.progress import Steps
from tools.releases.folder import NoReleaseError
from tools.releases.manifest import read_manifest, verify
from tools.serving.wheel import ServerUnavailableError

EXAMPLES = """\
examples:
  python tools/build_repo.py --config tools/config/movielens-100k.toml
  python tools/build_repo.py --config mine.toml --check        # only look at the data
  python tools/build_repo.py --config mine.toml --validate     # measure on validation items
  python tools/build_repo.py --config mine.toml --seed 2
  python tools/build_repo.py --config mine.toml --variant distilled-int8   # see tools/compress.py
  python tools/build_repo.py --config mine.toml --profile gpu  # for TensorRT, too
  python tools/build_repo.py --config mine.toml --feedback     # learn from logged events, too
  python tools/build_repo.py --config mine.toml --refresh      # go on from the active release
  python tools/build_repo.py --config mine.toml --refresh --watch --events 1000 --activate localhost:8001
  python tools/build_repo.py verify build/releases/3f9a0c51d2e7

exit status: 0 done, 1 a check failed or a server was missing, 2 the configuration or the data need a change
"""
OK, FAILED, BAD_INPUT = 0, 1, 2
STEPS = 8
STORE_PATIENCE = 10.0
"""Seconds that a build waits for the store: longer than a request would."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["verify"]:
        return _verify(_verify_parser().parse_args(words[1:]).release)
    options = parse_options(words)
    try:
        config = load_config(options.config)
        changes = {"seed": options.seed, "output": options.output}
        config = config.model_copy(update={key: value for key, value in changes.items() if value is not None})
        profiles = tuple(dict.fromkeys((*config.profiles, *options.profile)))
        config = config.model_copy(update={"profiles": profiles})
        if options.variant is not None:
            compress = config.compress.model_copy(update={"variant": options.variant})
            config = config.model_copy(update={"compress": compress})
        receipt = None if options.receipt is None else _receipt(options.receipt)
        if not options.refresh:  # which goes on from a release, without a teacher
            require_teacher(config)
        if options.check:
            return _check(config)
        if options.validate:
            return _validate(config)
        if options.watch:
            return _watch(config, options)
        if options.refresh:
            return _refresh(config)
        return _build(config, force=options.force, learn=options.feedback, receipt=receipt)
    except (ConfigError, DataProblems) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except (
        CheckFailed,
        FloatingPointError,
        NoReleaseError,
        ServerUnavailableError,
        StoreUnavailable,
    ) as error:
        print(f"build_repo.py: {error}", file=sys.stderr)
        return FAILED


def _build(config: BuildConfig, *, force: bool, learn: bool, receipt: Mapping[str, Any] | None) -> int:
    from tools.data.gather import gather
    from tools.releases.build import build_release, find_built, fingerprint_of
    from tools.releases.refresh import active_release, contents
    from tools.releases.slots import more_steps

    console = Console(highlight=False)
    fingerprint = fingerprint_of(config)
    # With the log's events, what is built from is only known when they have been read.
    built = None if force or learn else find_built(config, fingerprint)
    steps = Steps(STEPS + more_steps(config) if built is None else 2, console)
    if built is not None:
        console.print(f"reusing release {built.name}: same configuration, data, code and libraries")
        if _is_filled(config, built):
            return OK
    with steps.step("reading and checking the data") as update:
        gathered = gather(
            config, lambda what, rows: update(rows, rows, f"{what}: {rows:,} rows"), learn=learn
        )
    if learn:
        fingerprint = fingerprint_of(config, contents(gathered))
        built = None if force else find_built(config, fingerprint)
    release = built or build_release(
        config, gathered, fingerprint, steps, active=active_release(config.output), receipt=receipt
    )
    with steps.step("filling the feature store") as update:
        fill(config, gathered, lambda done, total: update(done, total, "users"))
    _make_plans(config, release, console)
    _summarise(release, console)
    active = active_release(config.output)
    if active is None or active.name == release.name:
        elsewhere = "" if config.store.url == StoreConfig().url else " --store URL, the one in [store]"
        command = f"python tools/serve.py --build {config.output}{elsewhere}"
    else:
        command = _activation(config, release)
    console.print(f"serve it with: {command}", soft_wrap=True, markup=False)
    return OK


def _receipt(path: Path) -> dict[str, Any]:
    from tools.compression.receipt import read_receipt

    return read_receipt(path)


def _activation(config: BuildConfig, release: Path) -> str:
    return (
        f"python tools/release.py activate {release.name} --build {config.output}"
        " (with --offline where no server runs)"
    )


def _refresh(config: BuildConfig) -> int:
    from tools.releases.refresh import refresh

    console = Console(highlight=False)
    release = refresh(config, console)
    if release is not None:
        _make_plans(config, release, console)
        _summarise(release, console)
        console.print(f"serve it with: {_activation(config, release)}", soft_wrap=True, markup=False)
    return OK


def _watch(config: BuildConfig, options: argparse.Namespace) -> int:
    from tools.releases.watch import watch

    try:
        watch(config, every=options.every, events=options.events, address=options.activate)
    except KeyboardInterrupt:
        print("stopped")
    return OK


def _make_plans(config: BuildConfig, release: Path, console: Console) -> None:
    """Make TensorRT's plans of `release` where that can be done here; else say where it will be."""
    if "gpu" in config.profiles:
        from tools.plans.building import make_plans_here

        console.print(make_plans_here(config.output, release), soft_wrap=True, markup=False)


def _is_filled(config: BuildConfig, release: Path) -> bool:
    """Whether the configured store knows the users of `release`, as far as one of them tells."""
    example = read_manifest(release)["examples"]["heavy_user_id"]
    store = open_store(config.store.url, timeout=STORE_PATIENCE)
    try:
        return holds_user(store, example)
    finally:
        store.close()


def _summarise(release: Path, console: Console) -> None:
    headline = read_manifest(release)["metrics"]["headline"]

    def interval(name: str, form: str = ".3f") -> str:
        value = headline[name]
        if value is None or value["mean"] is None:
            return "unknown"
        return f"{value['mean']:{form}} (95 %: {value['low']:{form}} … {value['high']:{form}})"

    console.print(f"\nrelease {release.name}, measured as served:")
    console.print(f"  NDCG@10        {interval('ndcg_10')}")
    if headline["best_baseline"]:
        console.print(f"  ÷ {headline['best_baseline']:<12} {interval('times_best_baseline', '.2f')}")
    console.print(f"  Recall@{headline['retrieve_recall']['k']:<7} {interval('retrieve_recall')}")
    console.print(f"  gain of rank   {interval('rank_gain_relative', '+.1%')}")
    console.print(f"  coverage@20    {headline['coverage_20']:.1%} of the catalogue at the default diversity")
    console.print(f"  report         {release / 'report' / 'index.html'}\n", soft_wrap=True)


def _check(config: BuildConfig) -> int:
    from tools.data.dataset import load_dataset
    from tools.data.vectors import has_vector
    from tools.training.features import Features

    dataset = load_dataset(config)
    Features.of(dataset, config)
    interactions = dataset.interactions
    print(
        f"the data are fine: {interactions.n_events:,} events of {interactions.n_users:,} users"
        f" and {interactions.n_items:,} items"
    )
    for name, vectors in dataset.item_vectors.items():
        count = f"{has_vector(vectors).sum():,} of {interactions.n_items:,} items"
        print(f"{name} vectors: {vectors.shape[1]:,} numbers each, for {count}")
    for note in dataset.notes:
        print(f"note: {note}")
    return OK


def _validate(config: BuildConfig) -> int:
    from tools.data.dataset import load_dataset
    from tools.releases.slots import more_steps
    from tools.releases.validate import validate

    validate(config, load_dataset(config), Steps(3 + more_steps(config), Console(highlight=False)))
    return OK


def _verify(release: Path) -> int:
    try:
        differences = list(verify(release))
    except (OSError, ValueError) as error:
        print(f"build_repo.py: {error}", file=sys.stderr)
        return BAD_INPUT
    for difference in differences:
        print(f"{release.name}: {difference}", file=sys.stderr)
    if not differences:
        print(f"{release.name}: every file is as it was built")
    return FAILED if differences else OK


def parse_options(words: Sequence[str]) -> argparse.Namespace:
    """The options of a build. Exits with status 2 where they do not fit together."""
    parser = _parser()
    options = parser.parse_args(words)
    watching = (options.every, options.events, options.activate) != (None, None, None)
    if watching and not options.watch:
        parser.error("--every, --events and --activate need --watch")
    if options.watch and not options.refresh:
        parser.error("--watch needs --refresh")
    if options.watch and options.every is None and options.events is None:
        parser.error("--watch needs --every SECONDS, --events N or both")
    if options.refresh and (options.force or options.feedback):
        parser.error("--refresh learns from the log anyway, and only what is new: no --force, no --feedback")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/build_repo.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the build's TOML file")
    parser.add_argument("--seed", type=seed, metavar="N", help="instead of the file's")
    parser.add_argument("--output", type=Path, metavar="DIR", help="instead of the file's")
    parser.add_argument(
        "--profile",
        action="append",
        choices=get_args(Profile),
        default=[],
        help="write what this profile serves from, too, besides the file's profiles; may be repeated",
    )
    parser.add_argument(
        "--variant",
        choices=VARIANTS,
        metavar="NAME",
        help=f"the form in which the ranker is served, instead of the file's: {', '.join(VARIANTS)}",
    )
    parser.add_argument(
        "--receipt", type=Path, metavar="FILE", help="show this receipt of tools/compress.py in the report"
    )
    parser.add_argument("--force", action="store_true", help="build even if this very release is there")
    parser.add_argument(
        "--feedback", action="store_true", help="learn also from the events that were logged while serving"
    )
    parser.add_argument("--watch", action="store_true", help="with --refresh: again and again, until Ctrl-C")
    parser.add_argument(
        "--every",
        type=above_zero,
        metavar="SECONDS",
        help="--watch: so long after the last, if there is any",
    )
    parser.add_argument(
        "--events", type=above_zero, metavar="N", help="--watch: as soon as so many events have been logged"
    )
    parser.add_argument(
        "--activate", metavar="ADDRESS", help="--watch: activate what passes the gates on this server (gRPC)"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--refresh",
        action="store_true",
        help="train on from the active release with what was logged since: a fraction of a build's time",
    )
    mode.add_argument("--check", action="store_true", help="read and check the data, then stop")
    mode.add_argument(
        "--validate",
        action="store_true",
        help="train without the last two events of each user and measure on the first of them; for tuning",
    )
    return parser


def _verify_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/build_repo.py verify",
        description="Recompute the hashes of a release and name every file that is not as it was built.",
    )
    parser.add_argument("release", type=Path, help="the release's folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
