"""The highest rate of arrivals at which a server holds an objective, and the stage that limits it.

Rates are doubled or halved until the answer is enclosed, then bisected. Each rate is probed, after a warm-up,
until a majority of --repeats probes agrees. A server is started where none runs at the address, and stopped
again. With --mix feedback events are WRITTEN into the server's store.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from arguments import BadOptions, add_arguments, audience, setting
from load import complain, warn_of_writing
from locustfile import measure
from rich.console import Console
from target import NoTargetError, target
from tritonclient.utils import InferenceServerException

from tools.load.calls import NoServerError
from tools.load.report import Figures, capacity_figures, load_figures, write_report
from tools.load.schedule import Step
from tools.load.search import Capacity, search
from tools.load.slo import Slo, SloError
from tools.load.visitors import Audience

EXAMPLES = """\
examples:
  python tests/load/capacity.py --slo p99=50ms,errors=0
  python tests/load/capacity.py --slo p99=30ms,errors=0.1% --rate 200 --probe 15 --resolution 2%
  python tests/load/capacity.py --slo p99=50ms,errors=0 --at-most 60 --repeats 1 --probe 4

exit status: 0 a capacity was found, 1 no rate held, 2 bad usage, 3 no server, or it broke
"""
OK, NONE_HELD, BAD_USAGE, NO_SERVER = 0, 1, 2, 3
DEFAULT_SLO = "p99=50ms,errors=0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the search; the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        limits = Slo.parse(options.slo)
        if len(options.rate) > 1:
            raise BadOptions("--rate: the search takes one rate, from which it starts")
        with target(options, console.print) as started:
            people = audience(options)
            warn_of_writing(options, console, started)
            begin = time.monotonic()
            found, probes = _search(options, limits, people, console)
            seconds = time.monotonic() - begin
    except (BadOptions, SloError, ValueError) as error:
        return complain(error, BAD_USAGE)
    except (NoTargetError, NoServerError, InferenceServerException) as error:
        return complain(error, NO_SERVER)
    except KeyboardInterrupt:
        return complain("stopped; there is no report", NO_SERVER)
    figures = capacity_figures(setting(options, "Capacity"), limits, found, probes, seconds)
    files = write_report(figures, options.out)
    _tell(figures, console)
    console.print(f"report: {files[1]}  ({files[0].name} beside it)")
    return OK if found.held else NONE_HELD


def _search(
    options: argparse.Namespace, limits: Slo, people: Audience, console: Console
) -> tuple[Capacity, list[Figures]]:
    probes: list[Figures] = []

    def probe(rate: float) -> bool:
        wanted = [Step(rate, options.warm_up, counted=False)] if options.warm_up else []
        wanted.append(Step(rate, options.probe))
        # Other arrivals and visitors each time: a rate must not hold because one draw was kind.
        measurement = measure(options, wanted, people, options.seed + len(probes))
        figures = load_figures(setting(options), measurement, limits)
        probes.append(figures)
        missed = [verdict["text"] for verdict in figures["steps"][0]["slo"] if not verdict["held"]]
        console.print(f"{rate:8.1f}/s  {'; '.join(missed) if missed else 'held'}")
        return bool(figures["held"])

    found = search(
        probe,
        start=options.rate[0],
        most=options.most,
        resolution=options.resolution,
        repeats=options.repeats,
        seconds=options.at_most,
        # Under locust a probe takes about a second more, and the last answers.
        probe_seconds=options.warm_up + options.probe + 1.5,
    )
    return found, probes


def _tell(figures: Figures, console: Console) -> None:
    if not figures["capacity"]:
        console.print("[bold red]no rate held[/bold red]")
    else:
        missed = (
            "no higher rate was missed"
            if figures["missed"] is None
            else f"missed at {figures['missed']:.1f}/s"
        )
        resolution = (
            "" if figures["resolution"] is None else f" (known to {100 * figures['resolution']:.1f} %)"
        )
        console.print(f"capacity {figures['capacity']:.1f}/s at {figures['slo']}, {missed}{resolution}")
    if not figures["complete"]:
        console.print("the search ended before it reached --resolution")
    if figures["bottleneck"]:
        console.print(f"bottleneck: {figures['bottleneck']['stage']}: {figures['bottleneck']['reason']}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tests/load/capacity.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, steps=False)
    parser.set_defaults(slo=DEFAULT_SLO, warm_up=2.0)
    add = parser.add_argument
    add(
        "--probe",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="of one probe, after --warm-up; default: 10",
    )
    add(
        "--repeats",
        type=int,
        default=3,
        metavar="N",
        help="probes of which a majority decides; odd; default: 3",
    )
    add("--resolution", type=_share, default=0.05, metavar="SHARE", help="how closely to look; default: 5%%")
    add("--at-most", type=float, default=600.0, metavar="SECONDS", help="for the whole search; default: 600")
    add("--most", type=float, default=100_000.0, metavar="N", help="the highest rate to try; default: 100000")
    return parser


def _share(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}; a share is 0.05 or 5%") from None


if __name__ == "__main__":
    sys.exit(main())
