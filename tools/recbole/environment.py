"""RecBole's own virtual environment, so that nothing of what it needs is ever in the product's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


class NoEnvironmentError(RuntimeError):
    """The environment could not be made; the message says why."""


def prepare(venv: Path, say: Callable[[str], object]) -> Path:
    """The Python of `venv`, made with the requirements where it is missing. Raises NoEnvironmentError."""
    python = venv.absolute() / "bin" / "python"
    stamp = venv / f"installed-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    if stamp.is_file():
        return python
    say(f"installing RecBole into {venv}: about 1.6 GB, some minutes")
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
    stamp.touch()
    return python
