"""Find out how many instances and threads, which queue delay and which batches serve most on this machine.

For each setting a real server is started on free ports with the release, and the highest rate at which it
holds an objective is searched. First one value after the other is tried, beginning with the shipped ones;
then what looked best is measured against the shipped setting in rounds. It wins only where it is better by
more than the noise: than the shipped setting is from itself, measured twice in each round, and than 5 %; and
where a lone request does not take longer for it. Otherwise the shipped values stay.

What wins is written to tuning.toml in the build, which tools/serve.py takes. Nothing is written into the
store. Keep the machine quiet meanwhile: the report says how much of it others used.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from tritonclient.utils import InferenceServerException

from python_backend.stores import StoreUnavailable
from tools.config.build import ConfigError
from tools.config.tuning import TUNED_MODELS, TUNING, ModelTuning, Tuning, dump_tuning, load_tuning
from tools.load.bench import Bench
from tools.load.calls import NoServerError
from tools.load.slo import SloError
from tools.load.sweep import (
    Axis,
    Finals,
    choose,
    default_grid,
    look_around,
)
from tools.load.sweep_report import FINALS, FIRST, Sweep, figures, finals_rows, first_rows, markdown, table
from tools.machine import machine
from tools.releases.folder import LATEST, NoReleaseError
from tools.serving.model_files import RepositoryError
from tools.serving.server import LOCAL, STAGED
from tools.serving.wheel import ServerUnavailableError

EXAMPLES = """\
examples:
  python tools/tune.py
  python tools/tune.py --slo p99=30ms,errors=0.1% --at-most 3600 --probe 10
  python tools/tune.py --profile staged
  python tools/tune.py --try pipeline.instances=2,3,4 --try pipeline.threads=1,2
  python tools/tune.py --quick

exit status: 0 done, whether something won or the shipped values stay, 1 as shipped no rate held,
2 bad usage, 3 a server could not be started, or it broke
"""
OK, NONE_HELD, BAD_USAGE, NO_SERVER = 0, 1, 2, 3
DEFAULT_SLO = "p99=50ms,errors=0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune; the exit status."""
    options = _parser().parse_args(arguments)
    if options.quick:
        options.probe, options.rounds, options.finalists = 1.0, 1, 1
    console = Console(highlight=False, soft_wrap=True)
    try:
        bench = Bench(options, console)
        axes = _axes(options.tries, bench.shipped)
        kept = _kept(options, bench.shipped)
        if not bench.find_start(options.rate):
            return _complain(f"as shipped no rate held {options.slo}; nothing was written", NONE_HELD)
        sweep = _sweep(options, bench, axes, console)
    except (NoReleaseError, RepositoryError, ConfigError, SloError, StoreUnavailable, ValueError) as error:
        return _complain(error, BAD_USAGE)
    except (ServerUnavailableError, NoServerError, InferenceServerException) as error:
        return _complain(error, NO_SERVER)
    except KeyboardInterrupt:
        return _complain("stopped; nothing was written", NO_SERVER)
    console.print(table("first looks, one search each", FIRST, first_rows(sweep)))
    console.print(table("against the shipped setting, medians of the rounds", FINALS, finals_rows(sweep)))
    console.print(sweep.verdict)
    for path in _write(options, sweep, {**kept, **sweep.choice.setting.tuning}):
        console.print(f"wrote {path}")
    return OK


def _sweep(options: argparse.Namespace, bench: Bench, axes: Sequence[Axis], console: Console) -> Sweep:
    """First looks as long as there is time for the rounds, then those."""
    begin = time.monotonic()
    rounds, sides = options.rounds, options.finalists + 2

    def has_time_for(more: int) -> bool:
        left = options.at_most - (time.monotonic() - begin)
        each = max(median(bench.seconds), bench.seconds[-1])
        return left >= more * each + rounds * sides * (each + options.probe + 1)

    count = sum(len(axis.values) for axis in axes)
    console.print(f"first looks: about {count} searches, {count * bench.seconds[0] / 60:.0f} minutes")
    first = look_around(axes, bench.shipped, bench.look, has_time_for)
    finals = Finals()
    for number in range(1, rounds + 1):
        console.print(f"round {number} of {rounds}")
        finals.play(number, first.finalists(options.finalists), bench.measure)
    others = np.array(bench.others)
    facts = {
        "objective": options.slo,
        "profile": options.profile,
        "release": f"{bench.release.name}, {len(bench.items):,} items",
        "machine": f"{machine()}, load generator on the same machine",
        "others used": f"{100 * np.median(others):.0f} % of its CPU (at most {100 * others.max():.0f} %)",
        "probes of": f"{options.probe:g} s",
        "light load": f"{bench.light_rate:.0f}/s",
        "took": f"{(time.monotonic() - begin) / 60:.0f} minutes",
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    if options.quick:
        facts["--quick"] = "tries the command; its figures say nothing"
    return Sweep(bench.shipped, first, finals, choose(finals), bench.light_rate, facts)


def _axes(tries: Sequence[tuple[str, str, tuple[int, ...]]], shipped: Tuning) -> list[Axis]:
    """What to try: what was asked for, else the default. Raises ConfigError."""
    for model, key, _ in tries:
        if model not in shipped:
            raise ConfigError([f"--try {model}.{key}: this profile has the models {', '.join(shipped)}"])
    return [Axis(*each) for each in tries] or default_grid(list(shipped), os.cpu_count() or 1)


def _target(options: argparse.Namespace) -> Path:
    """Where the tuning goes: what --quick finds is not to be served by default."""
    return options.file or options.build / ("tuning" if options.quick else "") / TUNING


def _kept(options: argparse.Namespace, shipped: Tuning) -> Tuning:
    """The tables of models that are not tuned now, which stay as they are. Raises ConfigError."""
    path = _target(options)
    tables = load_tuning(path) if path.is_file() else {}
    return {model: table for model, table in tables.items() if model not in shipped}


def _write(options: argparse.Namespace, sweep: Sweep, tuning: Tuning) -> list[Path]:
    """The tuning, every figure, and the table for docs/results.md; their paths."""
    words = [
        f"Written by tools/tune.py. {sweep.verdict}",
        "; ".join(" ".join(f) for f in sweep.facts.items()),
    ]
    texts = {
        options.build / "tuning" / "tuning.json": json.dumps(figures(sweep), indent=2, allow_nan=False)
        + "\n",
        options.build / "tuning" / "tuning.md": markdown(sweep),
        _target(options): dump_tuning(tuning, "\n".join(words)),
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    return list(texts)


def _tried(text: str) -> tuple[str, str, tuple[int, ...]]:
    """``pipeline.instances=1,2`` as a model, a key and values."""
    place, _, values = text.partition("=")
    model, _, key = place.partition(".")
    form = f"found {text!r}; it must be MODEL.KEY=N,N with a key of {', '.join(ModelTuning.model_fields)}"
    if model not in TUNED_MODELS or key not in ModelTuning.model_fields:
        raise argparse.ArgumentTypeError(form)
    try:
        numbers = tuple(int(value) for value in values.split(","))
        for number in numbers:
            ModelTuning.model_validate({key: number})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{form}, and values that are allowed for it") from None
    return model, key, numbers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/tune.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--build", type=Path, default=Path("build"), metavar="DIR", help="where releases are (default: build)"
    )
    add("--release", default=LATEST, metavar="NAME", help=f"default: {LATEST}")
    add("--store", metavar="URL", help="the feature store, which is only read (default: the build's LMDB)")
    add("--profile", choices=(LOCAL, STAGED), default=LOCAL, help=f"default: {LOCAL}")
    add("--slo", default=DEFAULT_SLO, metavar="LIMITS", help=f"default: {DEFAULT_SLO}")
    add(
        "--try",
        dest="tries",
        type=_tried,
        action="append",
        default=[],
        metavar="MODEL.KEY=N,N",
        help="values to try instead of the default ones, in this order; may be repeated",
    )
    add("--rate", type=_above_0, default=50.0, metavar="N", help="where to begin, pages/s; default: 50")
    add("--probe", type=_above_0, default=4.0, metavar="SECONDS", help="of one probe; default: 4")
    add("--rounds", type=_count, default=3, metavar="N", help="in which finalists are compared; default: 3")
    add("--finalists", type=_count, default=2, metavar="N", help="besides the shipped setting; default: 2")
    add(
        "--at-most",
        type=_above_0,
        default=900.0,
        metavar="SECONDS",
        help="values that there is no time for are not tried; default: 900",
    )
    add("--seed", type=int, default=1, metavar="N", help="of arrivals and visitors; default: 1")
    add("--file", type=Path, metavar="FILE", help=f"where the tuning goes (default: {TUNING} in the build)")
    add("--quick", action="store_true", help="one round of 1 s probes: to try the command, not the machine")
    return parser


def _above_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}; it must be a number above 0")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; it must be a whole number of at least 1")
    return int(text)


def _complain(error: object, status: int) -> int:
    print(f"tune.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    # Whoever ends it, servers are stopped in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
