"""Run an experiment between releases and read its result: serve the arms, stop them, report on the log."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from tritonrec_client.experiment import Experiment

from python_backend.stores import EventLog, StoreUnavailable, UserEvent, open_event_log
from python_backend.stores.events import CorruptEvent
from tools.evaluation.experiments import ArmReport, ExperimentReport, analyse, tally
from tools.evaluation.metrics import Interval

if TYPE_CHECKING:
    from tools.serving.activation import Control

OK, FAILED, BAD_INPUT = 0, 1, 2
PATIENCE = 10.0
"""Seconds that a report waits for the store: longer than a request would."""
AT_ONCE = 10_000

EXAMPLES = """\
examples:
  python tools/experiment.py start experiment.toml       # serve every arm as recommend_<arm>
  python tools/experiment.py report experiment.toml      # what the events say so far
  python tools/experiment.py report experiment.toml --since 2026-05-01 --plot ctr.svg
  python tools/experiment.py report experiment.toml --store redis://localhost:6379/0 --json
  python tools/experiment.py stop

the file, which the clients read, too:
  name = "longer-history"
  [arms.control]
  release = "708b79d7d4b6"
  weight = 0.9
  [arms.longer]
  release = "3f9a0c51d2e7"
  weight = 0.1

exit status: 0 done, 1 the server or the store failed or refused, 2 the file or an argument needs a change
"""


class _BadInput(ValueError):
    """Something that the caller has to change; the message says what."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
        return status
    except _BadInput as error:
        return _complain(error, BAD_INPUT)
    except (StoreUnavailable, CorruptEvent) as error:
        return _complain(error, FAILED)


def _start(options: argparse.Namespace) -> int:
    from tools.releases.folder import NoReleaseError, find_release
    from tools.releases.gates import judge_release

    experiment = _experiment(options.file)
    try:
        arms = {arm.name: find_release(options.build, arm.release) for arm in experiment.arms}
    except NoReleaseError as error:
        raise _BadInput(str(error)) from error
    status = _control(options, lambda it: it.start_arms(arms, gates=judge_release, forced=options.force))
    if status == OK:
        for arm in experiment.arms:
            print(f"serving recommend_{arm.name}: release {arm.release}, for {arm.weight:.1%} of the users")
    return status


def _stop(options: argparse.Namespace) -> int:
    status = _control(options, lambda it: it.stop_arms())
    if status == OK:
        print("no arms are served any more")
    return status


def _control(options: argparse.Namespace, change: Callable[[Control], None]) -> int:
    """Change what the server serves; the exit status."""
    from tools.serving.activation import ActivationRefused, Control, NotServed
    from tools.serving.lock import Busy

    try:
        with Control(options.build, options.address, say=lambda text: print(text, flush=True)) as control:
            change(control)
    except (ActivationRefused, Busy, NotServed) as error:
        return _complain(error, FAILED)
    return OK


def _report(options: argparse.Namespace) -> int:
    experiment = _experiment(options.file)
    try:
        log = open_event_log(options.store or f"lmdb://{options.build.resolve() / 'store'}", timeout=PATIENCE)
    except ValueError as error:
        raise _BadInput(str(error)) from error
    with log:
        found = tally(_events(log), experiment, options.since)
    if not found.elsewhere and not any(len(counts) for counts in found.arms.values()):
        print(f"experiment.py: there are no such events in {log.location}", file=sys.stderr)
    report = analyse(experiment, found)
    if options.plot is not None:
        _plot(report, options.plot)
    if options.json:
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(report, Console(highlight=False))
    return OK


def _experiment(path: Path) -> Experiment:
    try:
        return Experiment.load(path)
    except (OSError, ValueError) as error:
        raise _BadInput(str(error)) from error


def _events(log: EventLog) -> Iterator[UserEvent]:
    """Everything in `log` up to now, oldest first."""
    position = ""
    while page := log.read(position, AT_ONCE):
        yield from (event for _, event in page)
        position = page[-1][0]


def _plot(report: ExperimentReport, path: Path) -> None:
    from tools.evaluation.forest import forest_plot

    try:
        path.write_text(forest_plot(report), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _BadInput(f"--plot: {error}") from error


def _show(report: ExperimentReport, console: Console) -> None:
    for warning in report.warnings:
        console.print(f"warning: {warning}", soft_wrap=True, markup=False)
    table = Table(box=box.SIMPLE_HEAD, title=f"experiment {report.experiment}", title_justify="left")
    table.add_column("")
    for arm in report.arms:
        table.add_column(f"{arm.name}\n{arm.release}", justify="right", no_wrap=True)
    for name, cells in _rows(report.arms):
        table.add_row(name, *cells)
    # As wide as it has to be, wherever it goes.
    Console(width=max(console.width, 30 + 32 * len(report.arms)), highlight=False).print(table)
    console.print(
        "Intervals are 95 %, over users, and hold for one look at a time chosen beforehand.", soft_wrap=True
    )
    if report.split_probability is not None:
        console.print(f"Users per arm against the weights: p = {report.split_probability:.3g} (chi-square).")
    if report.elsewhere:
        several = ", ".join(f"{count:,} of {release}" for release, count in report.elsewhere.items())
        console.print(
            f"{sum(report.elsewhere.values()):,} events belong to no arm and are left out: {several}.",
            soft_wrap=True,
        )


def _rows(arms: Sequence[ArmReport]) -> Iterator[tuple[str, list[str]]]:
    """The table's rows: what it is, and a cell per arm."""
    yield "share planned", [f"{arm.weight:.1%}" for arm in arms]
    for name in ("users", "views", "clicks", "purchases", "skips"):
        yield name, [f"{getattr(arm, name):,}" for arm in arms]
    yield "CTR, clicks ÷ views", [_written(arm.ctr, "{:.3%}") for arm in arms]
    yield "purchases ÷ views", [_written(arm.purchase_rate, "{:.3%}") for arm in arms]
    yield "CTR − the first arm's", ["", *(_written(arm.ctr_difference, "{:+.3%}") for arm in arms[1:])]
    yield "CTR ÷ the first arm's", ["", *(_written(arm.ctr_ratio, "{:.3f}") for arm in arms[1:])]


def _written(value: Interval | None, form: str) -> str:
    if value is None:
        return "–"
    return f"{form.format(value.mean)} ({form.format(value.low)} … {form.format(value.high)})"


def _reason(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("found nothing; say why")
    return text


def _moment(text: str) -> int:
    """Unix seconds of an ISO 8601 date or time, which is UTC where it names no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"found {text!r}; give a date or time such as 2026-05-01 or 2026-05-01T08:00+02:00"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/experiment.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="start | stop | report")
    start = commands.add_parser("start", help="serve every arm of the file as recommend_<arm>")
    stop = commands.add_parser("stop", help="serve no arms any more")
    report = commands.add_parser("report", help="rates per arm from the event log, with intervals")
    for command, function in ((start, _start), (stop, _stop), (report, _report)):
        command.set_defaults(command=function)
        if command is not stop:
            command.add_argument("file", type=Path, metavar="FILE", help="the experiment's TOML file")
        command.add_argument(
            "--build",
            type=Path,
            default=Path("build"),
            metavar="DIR",
            help="where releases are (default: build)",
        )
    for command in (start, stop):
        command.add_argument(
            "--address",
            default="127.0.0.1:8001",
            metavar="HOST:PORT",
            help="the server's gRPC (default: 127.0.0.1:8001)",
        )
    start.add_argument(
        "--force", type=_reason, metavar="REASON", help="serve arms that fail gates; the manifest keeps why"
    )
    report.add_argument("--store", metavar="URL", help="where the log is (default: the build's LMDB)")
    report.add_argument(
        "--since",
        type=_moment,
        metavar="TIME",
        help="leave earlier events out; ISO 8601, UTC unless it says otherwise",
    )
    report.add_argument("--json", action="store_true", help="for programs")
    report.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw each arm's CTR with its interval")
    return parser


def _complain(error: object, status: int) -> int:
    print(f"experiment.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
