"""Make up a catalogue of any size and build a release of it, to see how serving grows with it.

Item vectors lie in clusters, popularity follows Zipf's law, users have a few tastes. Models have the real
form and were never trained: nothing here says how good pages are. What comes out is a complete build folder,
a release that `build_repo.py verify` accepts, and the store with its users.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from python_backend.stores import StoreUnavailable
from tools.checks import CheckFailed
from tools.progress import Steps
from tools.serving.wheel import ServerUnavailableError

EXAMPLES = """\
examples:
  python tools/synthesise.py --items 10000
  python tools/synthesise.py --items 1000000 --users 1000000 --output build/scale/1000000
  python tools/serve.py --build build/scale/1000000

exit status: 0 done, or it was there already; 1 a check failed or a server was missing, 2 bad usage
"""
OK, FAILED, BAD_USAGE = 0, 1, 2
LEAST_ITEMS = 20
GIB = 2**30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    # Torch and its company take seconds to load: not for a typing error.
    from tools.synthetic.release import STEPS, NotSyntheticError, synthesise

    output: Path = options.output or Path("build/scale") / str(options.items)
    console = Console(highlight=False)
    try:
        made = synthesise(
            options.items,
            options.users or options.items,
            seed=options.seed,
            output=output,
            steps=Steps(STEPS, console),
            force=options.force,
        )
    except NotSyntheticError as error:
        print(f"synthesise.py: {error}", file=sys.stderr)
        return BAD_USAGE
    except (CheckFailed, ServerUnavailableError, StoreUnavailable) as error:
        print(f"synthesise.py: {error}", file=sys.stderr)
        return FAILED
    console.print(
        f"\nSYNTHETIC release {made.release}: {made.items:,} items, {made.users:,} users,"
        f" {made.events:,} events; made in {sum(made.seconds.values()):.0f} s"
    )
    peaks = ", ".join(f"{name} {taken / GIB:.2f} GiB" for name, taken in made.peak_bytes.items())
    console.print(f"peak memory: {peaks}")
    console.print(f"serve it with: python tools/serve.py --build {output}", soft_wrap=True, markup=False)
    return OK


def _count(least: int) -> Callable[[str], int]:
    """A parser of whole numbers of at least `least`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"found {text!r}; allowed is a whole number of at least {least}")
        return int(text)

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/synthesise.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--items",
        type=_count(LEAST_ITEMS),
        required=True,
        metavar="N",
        help=f"how many, from {LEAST_ITEMS} on",
    )
    parser.add_argument("--users", type=_count(1), metavar="N", help="default: as many as items")
    parser.add_argument("--seed", type=_count(0), default=1, metavar="N", help="default: 1")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="the build folder; default: build/scale/ITEMS"
    )
    parser.add_argument("--force", action="store_true", help="make it again even if it is there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
