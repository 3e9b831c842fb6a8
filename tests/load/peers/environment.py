"""The peers' own virtual environment, so that nothing of theirs is ever in the product's.

python tests/load/peers/environment.py --venv build/peers/venv
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools import environment
from tools.environment import NoEnvironmentError

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
DEFAULT = Path("build/peers/venv")
OK, FAILED = 0, 1


def prepare(venv: Path, say: Callable[[str], object]) -> Path:
    """The Python of `venv`, made with the requirements where it is missing. Raises NoEnvironmentError."""
    return environment.prepare(venv, REQUIREMENTS, say, of="the peers (600 MB)")


def versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """The versions of the distributions `names` that `python` has, and its own."""
    script = (
        "import platform, sys; from importlib.metadata import version;"
        " print(platform.python_version(), *map(version, sys.argv[1:]))"
    )
    done = subprocess.run([str(python), "-c", script, *names], capture_output=True, text=True, check=True)
    return dict(zip(("python", *names), done.stdout.split(), strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python tests/load/peers/environment.py",
        description="Makes the virtual environment of the peers.",
        epilog="exit status: 0 it is there, 1 it could not be made",
    )
    parser.add_argument("--venv", type=Path, default=DEFAULT, metavar="DIR", help=f"default: {DEFAULT}")
    options = parser.parse_args(arguments)
    try:
        prepare(options.venv, print)
    except NoEnvironmentError as error:
        print(f"environment.py: {error}", file=sys.stderr)
        return FAILED
    return OK


if __name__ == "__main__":
    sys.exit(main())
