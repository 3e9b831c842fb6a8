"""Make the TensorRT plans of a release for this machine's card, or find that they are there.

Plans fit one kind of card and one version of TensorRT, so every GPU node makes its own, once: a second run,
and a node with such a card that shares the folder, finds them. Profile gpu serves what this command made.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tools.plans.builder import PlanRefused
from tools.plans.building import CHECKED
from tools.plans.cache import FOLDER, PlanCache
from tools.plans.capability import Capability, NoCard
from tools.plans.graphs import PROFILE, STAGES, Graphs, NoGraphsError
from tools.plans.library import Library, LibraryMissing, find_library
from tools.plans.making import card_for, compile_check, make_plan, require_shipping
from tools.progress import Steps
from tools.releases.folder import LATEST, NoReleaseError, find_release

OK, REFUSED, BAD_USAGE = 0, 1, 2

EXAMPLES = """\
examples:
  python tools/make_plans.py                          # of the newest release in build/, for this card
  python tools/make_plans.py --release 3f9a0c51d2e7 --plans /var/cache/plans
  python tools/make_plans.py --build /releases --release-file /run/tritonrec/release --plans /plans
  python tools/make_plans.py --check                  # compile and keep nothing; needs no card with
                                                      # tensorrt_rtx
  python tools/make_plans.py --check --capability 8.9 --capability 12.0

exit status: 0 every plan is there, or every graph compiles; 1 TensorRT, the card or the release's graphs are
missing, or TensorRT refuses a graph; 2 bad usage or no such release
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if len(options.capability) > 1 and not options.check:
        parser.error("several capabilities are for --check: a machine makes plans for its own card")
    if options.profile != PROFILE:
        print(f"profile {options.profile} needs no plans")
        return OK
    build: Path = options.build.resolve()
    try:
        name = options.release
        if options.release_file is not None:
            name = options.release_file.read_text(encoding="utf-8").strip()
        graphs = Graphs.of(find_release(build, name))
        library = find_library()
        if options.check:
            _check(graphs, library, options.capability)
        else:
            named = options.capability[0] if options.capability else None
            _make(graphs, library, named, PlanCache(options.plans or build / FOLDER))
    except (LibraryMissing, NoCard, NoGraphsError, PlanRefused) as error:
        return _complain(error, REFUSED)
    except (NoReleaseError, OSError, ValueError) as error:
        return _complain(error, BAD_USAGE)
    return OK


def _make(graphs: Graphs, library: Library, capability: Capability | None, cache: PlanCache) -> None:
    require_shipping(library)
    card = card_for(capability)
    console = Console(highlight=False)
    console.print(
        f"plans of release {graphs.release.name} for {card}, {graphs.precision}, batches of 1 to"
        f" {graphs.most_rows}, by {library}",
        soft_wrap=True,
    )
    steps = Steps(len(STAGES), console)
    for stage in STAGES:
        with steps.step(stage):
            plan, made = make_plan(graphs, stage, library, card.capability, cache, say=console.print)
        console.print(f"      {'made' if made else 'fits'}: {plan.path}", soft_wrap=True)


def _check(graphs: Graphs, library: Library, capabilities: Sequence[Capability]) -> None:
    wanted = capabilities or (CHECKED if library.named_capabilities else (card_for(None).capability,))
    console = Console(highlight=False)
    console.print(
        f"compiling release {graphs.release.name}, {graphs.precision}, batches of 1 to {graphs.most_rows},"
        f" by {library}; nothing is kept",
        soft_wrap=True,
    )
    steps = Steps(len(STAGES) * len(wanted), console)
    for capability in wanted:
        for stage in STAGES:
            with steps.step(f"{stage} for compute capability {capability}"):
                compile_check(graphs, stage, library, capability)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/make_plans.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--build", type=Path, default=Path("build"), metavar="DIR", help="where releases are (default: build)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--release",
        default=LATEST,
        metavar="NAME",
        help=f"its 12 hexadecimal digits (default: {LATEST}, the newest)",
    )
    which.add_argument(
        "--release-file",
        type=Path,
        metavar="FILE",
        help="the file with its name, from tools/verify_release.py",
    )
    parser.add_argument(
        "--plans",
        type=Path,
        metavar="DIR",
        help=f"where plans are kept (default: {FOLDER} beside the releases)",
    )
    parser.add_argument(
        "--capability",
        type=_capability,
        action="append",
        default=[],
        metavar="X.Y",
        help="the compute capability to compile for (default: that of this machine's card); with --check it"
        " may be repeated",
    )
    parser.add_argument(
        "--profile",
        default=PROFILE,
        metavar="NAME",
        help=f"of the server that plans are for: any other than {PROFILE} (the default) needs none",
    )
    parser.add_argument("--check", action="store_true", help="only try whether every graph compiles")
    return parser


def _capability(text: str) -> Capability:
    try:
        return Capability.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _complain(error: object, status: int) -> int:
    print(f"make_plans.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
