"""Virtual environments of others' programs, so that nothing of what they need is ever in the product's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class NoEnvironmentError(RuntimeError):
    """The environment could not be made; the message says why."""


def is_ready(venv: Path, requirements: Path) -> bool:
    """Whether `venv` holds what the file `requirements` says now."""
    return _stamp(venv, requirements).is_file()


def prepare(venv: Path, requirements: Path, say: Callable[[str], object], *, of: str) -> Path:
    """The Python of `venv`, made with `requirements` where it is missing.

    `of` says for people whose it is, and how large. Raises NoEnvironmentError.
    """
    python = venv.absolute() / "bin" / "python"
    if is_ready(venv, requirements):
        return python
    say(f"installing {of} into {venv}: some minutes")
    pip = (str(python), "-m", "pip")
    commands = (
        [sys.executable, "-m", "venv", "--clear", str(venv)],
        [*pip, "install", "--quiet", "--disable-pip-version-check", "--requirement", str(requirements)],
        [*pip, "check"],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
            raise NoEnvironmentError(f"{' '.join(command)}: exit status {done.returncode}: {' '.join(last)}")
    _stamp(venv, requirements).touch()
    return python


def _stamp(venv: Path, requirements: Path) -> Path:
    return venv / f"installed-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]}"
