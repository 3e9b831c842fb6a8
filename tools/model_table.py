"""The table of models: every channel and ranker of a release, trained, served by Triton and measured."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from python_backend.release import Release
from tools.build_repo import BAD_INPUT, FAILED, OK, STEPS
from tools.checks import CheckFailed
from tools.config.build import BuildConfig, ConfigError, load_config
from tools.data.dataset import Dataset, load_dataset
from tools.data.fetch import FetchError, fetch_missing
from tools.data.gather import Gathered
from tools.data.problems import DataProblems
from tools.data.split import leave_one_out
from tools.progress import Steps
from tools.releases.build import build_release, find_built, fingerprint_of
from tools.releases.slots import more_steps
from tools.serving.wheel import ServerUnavailableError
from tools.table.measuring import OtherQuestions, measure, table_of
from tools.table.page import render_page
from tools.table.plots import draw

DESCRIPTION = """\
Builds a release with the channels and rankers of a configuration, if it is not there yet, serves every one of
them as a Triton model of its own, asks each for every user and writes a table of figures and a page of plots.

Beside it, the same configuration without [[channels]] and [[rankers]] is built: what merging gains after
ranking is measured against that. With MovieLens-100K on one core all of it takes about half an hour, most of
it training; of releases that are there already, three minutes.
"""
EXAMPLES = """\
examples:
  python tools/model_table.py
  python tools/model_table.py --validation                            # to choose models by
  python tools/model_table.py --config mine.toml --out build/mine
  python tools/model_table.py --release build/releases/0123456789ab   # of a release that is there

exit status: 0 written, 1 a check failed or the server did not start, 2 the configuration or the data need a
change
"""
PAGE, JSON = "index.html", "table.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        config = load_config(options.config)
        fetch_missing(config.data.events.path, console.print)
        dataset = load_dataset(config)
        judged_by = "validation" if options.validation else "test"
        if options.validation:
            # Of its own, so that nobody serves a release that knows less than there is to know.
            config = config.model_copy(update={"output": config.output / "validation"})
            dataset = replace(dataset, interactions=dataset.interactions.without_last(1))
        path = options.release or _built(config, dataset, judged_by, console)
        single = options.single
        if single is None and not options.release and (config.channels or config.rankers):
            plain = config.model_copy(update={"channels": (), "rankers": ()})
            single = _built(plain, dataset, judged_by, console)
        release = Release.open(path.resolve())
        histories = leave_one_out(dataset.interactions).train_and_validation
        measured = measure(
            release, dataset, histories, config.output.resolve(), Steps(4, console), repeats=options.repeats
        )
        table = table_of(release, config, dataset, measured, judged_by=judged_by, single=single)
    except (ConfigError, DataProblems, FetchError, OtherQuestions, FileNotFoundError) as error:
        print(f"model_table.py: {error}", file=sys.stderr)
        return BAD_INPUT
    except (CheckFailed, ServerUnavailableError) as error:
        print(f"model_table.py: {error}", file=sys.stderr)
        return FAILED
    out = options.out or config.output / "table"
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False)
    (out / JSON).write_text(text + "\n", encoding="utf-8")
    (out / PAGE).write_text(render_page(table, draw(table["rows"])), encoding="utf-8")
    console.print(f"page: {out / PAGE}  figures: {out / JSON}")
    return OK


def _built(config: BuildConfig, dataset: Dataset, judged_by: str, console: Console) -> Path:
    """The release of `dataset` that `config` builds, or that was built from it before."""
    fingerprint = fingerprint_of(config, *([judged_by] if judged_by == "validation" else []))
    found = find_built(config, fingerprint)
    steps = Steps(STEPS - 2 + more_steps(config), console)
    return found or build_release(config, Gathered.from_files(dataset), fingerprint, steps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/model_table.py",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("tools/config/movielens-100k-models.toml"),
        metavar="FILE",
        help="the data, the channels and the rankers (default: %(default)s)",
    )
    parser.add_argument(
        "--release",
        type=Path,
        metavar="DIR",
        help="measure this release of that data instead of building one",
    )
    parser.add_argument(
        "--single", type=Path, metavar="DIR", help="the release with one channel to compare with"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: table in the output)"
    )
    parser.add_argument(
        "--validation",
        action="store_true",
        help="judge by each user's last event but one, and train without the last: to choose by",
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="turns of the latencies (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
