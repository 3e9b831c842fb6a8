"""Virtual environments of others' programs: made once, and again where what they need has changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.environment import NoEnvironmentError, is_ready, prepare


def test_an_environment_is_made_once_and_again_when_its_requirements_change(tmp_path: Path) -> None:
    venv, requirements, said = tmp_path / "venv", tmp_path / "requirements.txt", list[str]()
    requirements.write_text("")
    assert not is_ready(venv, requirements)
    for _ in range(2):
        python = prepare(venv, requirements, said.append, of="nothing (0 MB)")
    assert said == [f"installing nothing (0 MB) into {venv}: some minutes"]
    done = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
    assert done.stdout.strip() == str(venv)
    requirements.write_text("# nothing, in other words\n")
    assert not is_ready(venv, requirements)


def test_what_cannot_be_installed_is_named_and_the_environment_not_ready(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("./not-there\n")
    with pytest.raises(NoEnvironmentError, match=r"pip install .*: exit status 1: .*not-there"):
        prepare(tmp_path / "venv", requirements, lambda text: None, of="nothing (0 MB)")
    assert not is_ready(tmp_path / "venv", requirements)
