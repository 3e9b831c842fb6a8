"""The command line of a build, up to where training starts; whole builds are in tests/server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tritonrec_client.contract import Sizes

from tools.build_repo import EXAMPLES, main
from tools.checks import CheckFailed
from tools.releases import build
from tools.releases.manifest import folder_hashes, write_manifest
from tools.serving.wheel import ServerUnavailableError

ROOT = Path(__file__).parents[2]

TOML = """
name = "shop"
output = "out"

[data.events]
path = "events.csv"
user = "user"
item = "item"
timestamp = "time"

[data.users]
path = "users.csv"
id = "user"
features = [ { column = "country", kind = "categorical" }, { column = "hobbies", kind = "multi", slots = 2 } ]

[contract]
candidates = 3
results = 2
user_features = 3

[store]
url = "lmdb://out/store"
"""
EVENTS = "user,item,time\n" + "".join(
    f"{user},{item},{100 + item}\n" for user in (1, 2) for item in (7, 8, 9)
)
USERS = "user,country,hobbies\n1,de,tea|chess\n2,fr,\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with good data and configuration."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"shop.toml": TOML, "events.csv": EVENTS, "users.csv": USERS}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A finished release of one file."""
    path = tmp_path / "0123456789ab"
    (path / "artifacts").mkdir(parents=True)
    (path / "artifacts" / "rank.onnx").write_text("a graph")
    content = {"release": path.name, "sizes": Sizes().to_dict(), "files": folder_hashes(path)}
    write_manifest(path, content)
    return path


def replaced(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What goes to standard error where a run ends with status 2."""
    assert main(words) == 2
    return capsys.readouterr().err


def test_help_as_documented_shows_every_option_and_examples() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients'}", "COLUMNS": "100"}
    words = [sys.executable, "tools/build_repo.py", "--help"]
    help_text = subprocess.run(
        words, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert EXAMPLES in help_text
    for option in re.findall(r"--[a-z]+", EXAMPLES):
        assert f"{option} " in help_text.replace("]", " ").replace("\n", " ")
    for example in re.findall(r"tools/config/\S+\.toml", EXAMPLES):
        assert (ROOT / example).is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--config"),
        (["--config", "shop.toml", "--check", "--validate"], "not allowed with"),
        (["--config", "shop.toml", "--seed", "-1"], "found '-1'; a seed is a whole number of at least 0"),
        (["--config", "shop.toml", "--seed", "one"], "found 'one'; a seed is a whole number"),
        (["verify"], "release"),
    ],
)
def test_a_command_that_cannot_be_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


# Data and configuration.


def test_check_says_that_good_data_are_fine_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert main(["--config", "shop.toml", "--check"]) == 0
    assert capsys.readouterr().out == "the data are fine: 6 events of 2 users and 3 items\n"
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("mode", [["--check"], ["--validate"], []])
def test_bad_data_are_listed_with_file_column_and_row_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], mode: list[str]
) -> None:
    replaced(folder, "events.csv", "1,7,107", "1,,soon")
    before = sorted(folder.rglob("*"))
    message = refused(capsys, "--config", "shop.toml", *mode)
    assert "nothing was written" in message
    for part in ("events.csv", "column 'item'", "column 'time'", "row 1 (line 2)", "'soon'"):
        assert part in message
    assert sorted(folder.rglob("*")) == before


def test_missing_data_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "events.csv").unlink()
    assert "events.csv" in refused(capsys, "--config", "shop.toml", "--check")


def test_a_missing_configuration_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.toml: cannot be read" in refused(capsys, "--config", "none.toml", "--check")


def test_broken_toml_is_refused_with_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replaced(folder, "shop.toml", 'name = "shop"', "name = shop")
    message = refused(capsys, "--config", "shop.toml", "--check")
    assert re.search(r"shop.toml: is not TOML: .*line 2", message)


def test_an_unknown_key_is_refused_with_what_was_meant(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced(folder, "shop.toml", "candidates = 3", "candidate = 3")
    message = refused(capsys, "--config", "shop.toml", "--check")
    assert "contract.candidate: is not a known key; did you mean 'candidates'?" in message


@pytest.mark.parametrize("mode", ["--check", "--validate"])
def test_too_few_columns_for_the_users_features_are_told_before_anything_is_trained(
    folder: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    replaced(folder, "shop.toml", "user_features = 3", "user_features = 2")
    message = refused(capsys, "--config", "shop.toml", mode)
    assert "contract.user_features: the features need 3 columns but the width is 2" in message


@pytest.mark.parametrize(
    "error",
    [
        CheckFailed("served is not trained"),
        ServerUnavailableError("no server"),
        FloatingPointError("the training loss became nan; lower the learning rate"),
    ],
)
def test_a_build_that_fails_ends_with_status_1_and_its_reason(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(build, "build_release", fail)
    assert main(["--config", "shop.toml"]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"build_repo.py: {error}\n"
    assert not (folder / "out" / "store").exists()


def test_seed_and_output_of_the_command_line_win(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def stop(config: object, *_: object, **__: object) -> None:
        seen.append(config)
        raise CheckFailed("enough")

    monkeypatch.setattr(build, "build_release", stop)
    main(["--config", "shop.toml", "--seed", "7", "--output", "elsewhere"])
    main(["--config", "shop.toml"])
    assert [(config.seed, config.output) for config in seen] == [(7, Path("elsewhere")), (1, Path("out"))]


# Refreshing: what can be said without a release; the rest is in tests/server.


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--watch"], "--watch needs --refresh"),
        (["--refresh", "--watch"], "--watch needs --every SECONDS, --events N or both"),
        (["--refresh", "--events", "5"], "--every, --events and --activate need --watch"),
        (["--refresh", "--watch", "--every", "0"], "found '0'; allowed is a whole number of at least 1"),
        (["--refresh", "--force"], "no --force"),
        (["--refresh", "--check"], "not allowed with"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(
    folder: Path, words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--config", "shop.toml", *words])
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


def test_without_a_release_there_is_nothing_to_refresh(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", "shop.toml", "--refresh"]) == 1
    assert capsys.readouterr().err.startswith("build_repo.py: no release in out/releases")


def test_pseudonyms_without_a_key_are_refused_before_anything_is_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TRITONREC_PSEUDONYM_KEY", raising=False)
    (folder / "shop.toml").write_text(TOML + "\n[privacy]\npseudonyms = true\n")
    assert main(["--config", "shop.toml"]) == 2
    assert "TRITONREC_PSEUDONYM_KEY is not set" in capsys.readouterr().err


# verify.


def test_verify_of_an_untouched_release_is_0(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(release)]) == 0
    assert capsys.readouterr().out == "0123456789ab: every file is as it was built\n"


def test_verify_names_what_was_changed_and_is_1(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (release / "artifacts" / "rank.onnx").write_text("another graph")
    (release / "artifacts" / "new").touch()
    assert main(["verify", str(release)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "0123456789ab: artifacts/new: is not part of the release",
        "0123456789ab: artifacts/rank.onnx: was changed",
    ]


@pytest.mark.parametrize("what", ["none", "0123456789ab/manifest.json", "empty", "broken", "unfinished"])
def test_verify_of_what_is_no_release_is_2(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    for name in ("empty", "broken", "unfinished"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    write_manifest(tmp_path / "unfinished", {"release": "0123456789ab", "sizes": Sizes().to_dict()})
    message = refused(capsys, "verify", str(tmp_path / what))
    assert message.startswith("build_repo.py: ")
    assert "manifest.json" in message
