"""Three times the load that a server can take, for a minute: does it shed, stay quick, and recover?

Requests carry a deadline of 1.5 objectives; the server is to refuse what it cannot do by then, and to do
the rest in time. Half of the capacity is asked for before and after the burst. A server is started where none
runs at the address, and stopped again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from arguments import BadOptions, add_arguments, audience, setting
from load import complain, progress
from locustfile import measure
from rich.console import Console
from target import NoTargetError, target
from tritonclient.utils import InferenceServerException

from tools.load.calls import NoServerError
from tools.load.overload import Overload, figures, judge
from tools.load.report import load_figures, write_report
from tools.memory import PROC, SERVER, descendants, proportional_bytes

EXAMPLES = """\
examples:
  python tests/load/overload.py --capacity 350
  python tests/load/overload.py --capacity 350 --objective 30 --factor 5 --burst 20

exit status: 0 all of it held, 1 something was missed, 2 bad usage, 3 no server, or it broke
"""
DEADLINE = 1.5
"""Objectives: what lies between that and the two that are allowed is for what a server does not see."""
OK, MISSED, BAD_USAGE, NO_SERVER = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the overload; the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        overload = Overload(options.capacity, options.objective, options.factor, options.burst, options.calm)
        options.deadline = options.deadline or DEADLINE * overload.slo_ms / 1000
        with target(options, console.print):
            people = audience(options)
            server = _server(options.address)
            before = _memory(server)
            total = sum(step.seconds for step in overload.steps)
            with progress(console, total, "overload") as show:
                measurement = measure(options, overload.steps, people, options.seed, show)
            after = _memory(server)
        memory = (before, after) if before and after else None
        verdicts = judge(overload, measurement.recording, memory)
    except (BadOptions, ValueError) as error:
        return complain(error, BAD_USAGE)
    except (NoTargetError, NoServerError, InferenceServerException) as error:
        return complain(error, NO_SERVER)
    except KeyboardInterrupt:
        return complain("stopped; there is no report", NO_SERVER)
    load = load_figures(setting(options, "Overload"), measurement, None)
    _, page = write_report(load, options.out)
    found = figures(overload, verdicts, load)
    (options.out / "overload.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for verdict in verdicts:
        console.print(str(verdict), style="green" if verdict.holds else "bold red", markup=False)
    console.print(f"report: {page}  (overload.json beside it)")
    return OK if found["held"] else MISSED


def _server(address: str) -> int | None:
    """The process of the Triton that listens at `address`, if it is on this machine."""
    argument = f"--grpc-port={address.rpartition(':')[2]}"
    for path in PROC.glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[0].endswith(SERVER) and argument in words:
            return int(path.parent.name)
    return None


def _memory(server: int | None) -> int:
    return sum(proportional_bytes(pid) for pid in descendants(server)) if server else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tests/load/overload.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, steps=False)
    parser.set_defaults(out=Path("build/overload"), in_flight=20_000)
    add = parser.add_argument
    add(
        "--capacity",
        type=float,
        required=True,
        metavar="N",
        help="requests/s that the server can take, as `make capacity` finds it",
    )
    add(
        "--objective",
        type=float,
        default=50.0,
        metavar="MS",
        help="of the 99th percentile; deadlines are 1.5 times as long; default: 50",
    )
    add("--factor", type=float, default=3.0, metavar="N", help="times the capacity; default: 3")
    add("--burst", type=float, default=60.0, metavar="SECONDS", help="default: 60")
    add("--calm", type=float, default=10.0, metavar="SECONDS", help="before and after; default: 10")
    return parser


if __name__ == "__main__":
    sys.exit(main())
