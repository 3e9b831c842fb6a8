"""The peers' own virtual environment, so that nothing of theirs is ever in the product's.

python tests/load/peers/environment.py --venv build/peers/venv
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
DEFAULT = Path("build/peers/venv")
OK, FAILED = 0, 1


class NoEnvironmentError(RuntimeError):
    """The environment could not be made; the message says why."""


def is_ready(venv: Path) -> bool:
    """Whether `venv` holds what the requirements say now."""
    return _stamp(venv).is_file()


def prepare(venv: Path, say: Callable[[str], object]) -> Path:
    """The Python of `venv`, made with the requirements where it is missing. Raises NoEnvironmentError."""
    python = venv.absolute() / "bin" / "python"
    if is_ready(venv):
        return python
    say(f"installing the peers into {venv}: about 600 MB, some minutes")
    pip = (str(python), "-m", "pip")
    commands = (
        [sys.executable, "-m", "venv", "--clear", str(venv)],
        [*pip, "install", "--quiet", "--disable-pip-version-check", "--requirement", str(REQUIREMENTS)],
        [*pip, "check"],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
            raise NoEnvironmentError(f"{' '.join(command)}: exit status {done.returncode}: {' '.join(last)}")
    _stamp(venv).touch()
    return python


def versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """The versions of the distributions `names` that `python` has, and its own."""
    script = (
        "import platform, sys; from importlib.metadata import version;"
        " print(platform.python_version(), *map(version, sys.argv[1:]))"
    )
    done = subprocess.run([str(python), "-c", script, *names], capture_output=True, text=True, check=True)
    return dict(zip(("python", *names), done.stdout.split(), strict=True))


def _stamp(venv: Path) -> Path:
    return venv / f"installed-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}"


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
