"""The command line, as far as it needs no release that explores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.off_policy import BAD_INPUT, EXAMPLES, main


def test_help_shows_examples_and_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert EXAMPLES in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--window", "0"], "give seconds above 0"),
        (["--window", "soon"], "give seconds above 0"),
        (["--clip", "-1"], "give a weight above 0"),
        (["--diversity", "0"], "give a number above 0, up to 1"),
        (["--diversity", "2"], "give a number above 0, up to 1"),
        (["--since", "yesterday"], "give a date or time such as"),
        (["--reward", "view"], "invalid choice: 'view'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert words in capsys.readouterr().err


def test_without_a_release_there_is_nothing_to_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--build", str(tmp_path)]) == BAD_INPUT
    assert f"off_policy.py: no release in {tmp_path}/releases; build one with" in capsys.readouterr().err


@pytest.fixture
def release(tmp_path: Path) -> str:
    folder = tmp_path / "releases" / "0123456789ab"
    folder.mkdir(parents=True)
    sizes = {"candidates": 5, "results": 2, "history": 2, "seen": 2, "session": 2, "user_features": 1}
    (folder / "manifest.json").write_text(json.dumps({"release": folder.name, "sizes": sizes}))
    return folder.name


def test_a_store_that_is_none_is_refused(
    tmp_path: Path, release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([release, "--build", str(tmp_path), "--store", "mysql://there"]) == BAD_INPUT
    assert "off_policy.py: " in capsys.readouterr().err


def test_a_log_without_draws_says_what_would_make_some(
    tmp_path: Path, release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([release, "--build", str(tmp_path)]) == 1
    assert "no views of drawn places; see [rerank.exploration] and record_page" in capsys.readouterr().err
