"""Wait for a release on a volume, prove that it is what was built, and note its name for the server.

The first step of every pod: what starts is what was verified.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from python_backend.release import Release
from tools.releases.folder import NoReleaseError, find_releases
from tools.releases.manifest import verify
from tools.serving.served import open_release

OK, CHANGED, BAD_USAGE = 0, 1, 2
LOOK_AGAIN = 2.0
REMIND = 30.0
"""Seconds between two lines that say what is being waited for."""

EXAMPLES = """\
examples:
  python tools/verify_release.py --build=/releases --release=3f9a0c51d2e7 --note=/run/tritonrec/release
  python tools/verify_release.py --build=/releases --release= --note=/run/tritonrec/release   # the first one

exit status: 0 it is as it was built, 1 it is not, or did not come in time, 2 bad usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        release = _wait(options.build, options.release, options.wait)
        differences = list(verify(release.path))
    except NoReleaseError as error:
        return _complain(error, CHANGED)
    except (OSError, ValueError) as error:
        return _complain(error, BAD_USAGE)
    for difference in differences:
        print(f"{release.name}: {difference}", file=sys.stderr)
    if differences:
        return _complain(f"release {release.name} is not as it was built", CHANGED)
    options.note.write_text(f"{release.name}\n", encoding="utf-8")
    print(f"release {release.name}: every file is as it was built")
    return OK


def _wait(build: Path, name: str, patience: float) -> Release:
    """The release called `name` in `build`, or the first one there; NoReleaseError after `patience` seconds.

    A pod that is told no name takes the first, not the newest: pods of one Deployment that start at different
    times must agree.
    """
    end = time.monotonic() + patience
    told = -REMIND
    while True:
        try:
            if name:
                return open_release(build, name)
            if releases := find_releases(build):
                return releases[0]
            raise NoReleaseError(f"no release in {build / 'releases'}")
        except NoReleaseError as error:
            now = time.monotonic()
            if now >= end:
                raise
            if now - told >= REMIND:
                print(f"{error}; waiting for it", flush=True)
                told = now
        time.sleep(LOOK_AGAIN)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/verify_release.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--build", type=Path, required=True, metavar="DIR", help="the folder with releases/NAME"
    )
    parser.add_argument(
        "--release", default="", metavar="NAME", help="its 12 digits (default: the first one)"
    )
    parser.add_argument(
        "--note", type=Path, required=True, metavar="FILE", help="the file that its name is written into"
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=21600.0,
        metavar="SECONDS",
        help="for it to appear (default: 6 hours, as long as the first one may take to be built)",
    )
    return parser


def _complain(error: object, status: int) -> int:
    print(f"verify_release.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
