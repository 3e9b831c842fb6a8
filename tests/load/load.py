"""Load a server as its users would: requests arrive at random, whether earlier ones are answered or not.

Latency counts from the moment at which a request was meant to start. A server is started where none runs at
the address, and stopped again. With --mix feedback, what made-up visitors see, open and buy is WRITTEN into
the store of the server: use one that may be thrown away.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from arguments import FEEDBACK, BadOptions, add_arguments, audience, setting, slo, steps, store_url
from locustfile import measure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from target import NoTargetError, target
from tritonclient.utils import InferenceServerException

from tools.load.calls import NoServerError
from tools.load.generator import Generator
from tools.load.report import Figures, load_figures, write_report
from tools.load.slo import SloError

EXAMPLES = """\
examples:
  python tests/load/load.py
  python tests/load/load.py --rate 100 --duration 60 --slo p99=30ms,errors=0
  python tests/load/load.py --rate 50,100,150,200 --duration 15
  python tests/load/load.py --address recsys:8001 --users-from users.txt --slo p99.9=100ms,errors=0.1%
  python tests/load/load.py --mix feedback --store lmdb:///tmp/copy-of-the-store --slo record_event:p99=20ms

exit status: 0 done and every limit held, 1 a limit of --slo was missed, 2 bad usage, 3 no server, or it broke
"""
OK, MISSED, BAD_USAGE, NO_SERVER = 0, 1, 2, 3
SIGN_OF_LIFE = 5
"""Seconds between lines where the output is no terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the load test; the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        wanted, limits = steps(options), slo(options)
        with target(options, console.print) as started:
            people = audience(options)
            warn_of_writing(options, console, started)
            total = sum(step.seconds for step in wanted)
            with progress(console, total) as show:
                measurement = measure(options, wanted, people, options.seed, show)
    except (BadOptions, SloError) as error:
        return complain(error, BAD_USAGE)
    except (NoTargetError, NoServerError, InferenceServerException) as error:
        return complain(error, NO_SERVER)
    except KeyboardInterrupt:
        return complain("stopped; there is no report", NO_SERVER)
    figures = load_figures(setting(options), measurement, limits)
    files = write_report(figures, options.out)
    _tell(figures, console)
    console.print(f"report: {files[1]}  ({files[0].name} beside it)")
    return MISSED if figures["held"] is False else OK


def warn_of_writing(options: argparse.Namespace, console: Console, started: bool) -> None:
    """Say where events go, if there are any."""
    if options.mix == FEEDBACK:
        where = store_url(options) if started else f"the store of the server at {options.address}"
        console.print(f"[bold]events of made-up visitors are written into {where}[/bold]")


@contextmanager
def progress(console: Console, total: float, label: str = "load") -> Iterator[Any]:
    """A bar on a terminal, else a line now and then; yields what shows a generator's state."""
    if not console.is_terminal:
        last = 0.0

        def show(generator: Generator) -> None:
            nonlocal last
            if generator.now - last >= SIGN_OF_LIFE:
                last = generator.now
                console.print(
                    f"{label} {min(generator.now, total):4.0f} of {total:.0f} s  {_state(generator)}"
                )

        yield show
        return
    columns = (TextColumn(label), BarColumn(30), TimeElapsedColumn(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total, state="")
        yield lambda generator: bar.update(task, completed=generator.now, state=_state(generator))


def _state(generator: Generator) -> str:
    recording = generator.recording
    middle, tail = recording.recent(generator.now)
    tallies = [tally for step in recording.tallies for tally in list(step.values())]
    failed, skipped = sum(tally.failed for tally in tallies), sum(tally.skipped for tally in tallies)
    return f"p50 {middle:.1f} ms  p99 {tail:.1f} ms  failed {failed}  skipped {skipped}"


def _tell(figures: Figures, console: Console) -> None:
    for step in figures["steps"]:
        for kind, tally in step["requests"].items():
            latency = tally["latency_ms"]
            shown = "  ".join(f"{name} {latency[name]} ms" for name in ("p50", "p99", "p99.9", "max"))
            console.print(
                f"{step['rate']:g}/s {kind}: {tally['answered']} answered, {tally['failed']} failed,"
                f" {tally['skipped']} skipped;  {shown}"
            )
        for verdict in step["slo"]:
            colour = "green" if verdict["held"] else "bold red"
            console.print(f"  [{colour}]{verdict['text']}[/{colour}]")
        if step["bottleneck"]:
            console.print(f"  busiest: {step['bottleneck']['stage']}, {step['bottleneck']['reason']}")
    generator = figures["generator"]
    console.print(
        f"generator: {generator['cpu_cores']:.2f} cores,"
        f" {generator['cpu_ms_per_request']:.2f} ms of CPU per request"
    )
    for error, words in figures["problems"].items():
        console.print(f"{error}: {words}", markup=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tests/load/load.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    return parser


def complain(error: object, status: int) -> int:
    """Say what went wrong; `status`."""
    print(f"{sys.argv[0].rpartition('/')[2]}: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
