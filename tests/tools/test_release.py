"""`python tools/release.py`, without a server; with one, see tests/server/test_activation.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_release import make_release

from tools.release import BAD_USAGE, FAILED, OK, main
from tools.releases.manifest import folder_hashes, read_manifest, write_manifest
from tools.serving.history import read_activations
from tools.serving.repository import write_served_repository
from tools.serving.served import ServedRepository

OLDEST, OLDER, OLD, NEW = "aaaaaaaaaaa1", "aaaaaaaaaaa2", "aaaaaaaaaaa3", "aaaaaaaaaaa4"
NOBODY = "127.0.0.1:1"
"""An address at which no server answers."""


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A folder with four releases, of which none was served."""
    for age, name in enumerate((OLDEST, OLDER, OLD, NEW)):
        folder = make_release(tmp_path, name)
        complete(folder, ndcg=0.1 + age / 100, created=f"2026-01-0{age + 1}T03:04:05+00:00")
    return tmp_path


def complete(folder: Path, ndcg: float, **more: Any) -> None:
    """Give a toy release what a build writes into its manifest."""
    write_manifest(
        folder,
        {
            **read_manifest(folder),
            "name": "toys",
            "created": "2025-01-01T03:04:05+00:00",
            "data": {"events": 1234, "first": 86_400, "last": 2 * 86_400},
            "metrics": {"headline": {"ndcg_10": {"mean": ndcg, "low": 0, "high": 1}, "coverage_20": 0.5}},
            "gates": {"ndcg_10": {}, "coverage_20": {}},
            "files": folder_hashes(folder),
            **more,
        },
    )


def run(build: Path, *words: str) -> int:
    return main([*words, "--build", str(build)])


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def line_of(release: str, capsys: pytest.CaptureFixture[str]) -> str:
    return next(line for line in lines(capsys) if release in line)


def offline(build: Path, release: str, *words: str) -> int:
    return run(build, "activate", release, "--offline", "--address", NOBODY, *words)


def test_a_list_shows_the_newest_first_with_data_and_figures(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(build, "list") == OK

    shown = [line for line in lines(capsys) if "aaaaaaaaaaa" in line]
    assert [line.split()[0] for line in shown] == [NEW, OLD, OLDER, OLDEST]
    for figure in ("toys", "2026-01-04 03:04", "1970-01-02 – 1970-01-03", "1,234", "0.130", "50.0%"):
        assert figure in shown[0]


def test_a_list_says_which_part_a_release_plays(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert offline(build, OLD) == OK
    assert offline(build, NEW, "--force", "--reason", "it looks better") == OK
    paths = [build / "releases" / name for name in (NEW, OLDEST)]
    write_served_repository(paths, NEW, build / "served", arms={"bold": OLDEST})
    capsys.readouterr()
    assert run(build, "list") == OK

    states = {line.split()[0]: line for line in lines(capsys) if "aaaaaaaaaaa" in line}
    assert states[NEW].rstrip().endswith("active, forced")
    assert states[OLD].rstrip().endswith("previous")
    assert states[OLDEST].rstrip().endswith("arm bold")
    assert states[OLDER].rstrip().endswith("50.0%")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not a release's manifest"),
        (None, "No such file"),
        (json.dumps({"release": "bbbbbbbbbbbb", "sizes": {}}), "that of release bbbbbbbbbbbb"),
        (json.dumps({"release": OLD, "sizes": {}}), "lists no files"),
    ],
)
def test_a_list_marks_what_is_broken_and_shows_the_rest(
    build: Path, capsys: pytest.CaptureFixture[str], content: str | None, problem: str
) -> None:
    path = build / "releases" / OLD / "manifest.json"
    path.unlink() if content is None else path.write_text(content)
    assert run(build, "list") == OK

    shown = " ".join(" ".join(lines(capsys)).split())
    assert "broken" in shown
    assert problem in shown
    assert NEW in shown


def test_without_a_server_the_one_line_says_how_to_start_one(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offline(build, OLD) == OK
    capsys.readouterr()
    for words in (["activate", NEW], ["rollback"]):
        assert run(build, *words, "--address", NOBODY) == FAILED
        assert capsys.readouterr().err == (
            f"release.py: no Triton answers at {NOBODY};"
            f" start one with: python tools/serve.py --build {build}\n"
        )


def test_offline_makes_it_the_one_that_is_served_next(build: Path) -> None:
    assert offline(build, OLD) == OK
    write_served_repository(
        [build / "releases" / OLD], OLD, build / "served", overrides={"store_url": "redis://store"}
    )
    assert offline(build, "latest") == OK

    served = ServedRepository(build / "served")
    assert (served.active, served.releases) == (NEW, {NEW})
    assert served.overrides == {"store_url": "redis://store"}
    assert [(each.release, each.previous) for each in read_activations(build)] == [(OLD, None), (NEW, OLD)]


def test_offline_refuses_a_changed_file_by_name(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (build / "releases" / NEW / "models" / "rank" / "config.pbtxt").write_text("")

    assert offline(build, NEW, "--force", "--reason", "I know what I do") == FAILED
    assert "models/rank/config.pbtxt: was changed" in capsys.readouterr().err
    assert not (build / "served").exists()


def test_a_release_that_fails_its_gates_is_refused_unless_there_is_a_reason(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = build / "releases" / NEW
    complete(folder, 0.1, gates={"coverage_20": {"least": 0.9}})

    assert offline(build, NEW) == FAILED
    assert "does not pass" in capsys.readouterr().err
    assert "forced" not in read_manifest(folder)
    assert offline(build, NEW, "--force", "--reason", "a new catalogue") == OK
    forced = read_manifest(folder)["forced"][0]
    assert forced["reason"] == "a new catalogue"
    assert "coverage_20" in forced["failed"]
    assert read_activations(build)[-1].forced == "a new catalogue"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["activate", "bbbbbbbbbbbb"], "no release bbbbbbbbbbbb in"),
        (["activate", NEW, "--force"], "--force and --reason go together"),
        (["activate", NEW, "--reason", "none"], "--force and --reason go together"),
        (["activate", NEW, "--config", "nowhere.toml"], "nowhere.toml"),
        (["diff", NEW, "bbbbbbbbbbbb"], "no release bbbbbbbbbbbb in"),
    ],
)
def test_bad_usage_is_explained(
    build: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(build, *words) == BAD_USAGE
    assert message in capsys.readouterr().err


def test_a_build_without_releases_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "list") == BAD_USAGE
    assert "no release in" in capsys.readouterr().err


def test_prune_keeps_the_newest_and_what_is_used(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert offline(build, OLDEST) == OK
    capsys.readouterr()
    assert run(build, "prune", "--keep", "1", "--dry-run") == OK
    assert lines(capsys) == [f"would remove {build / 'releases' / name}" for name in (OLD, OLDER)]
    assert run(build, "prune", "--keep", "1") == OK

    assert {path.name for path in (build / "releases").iterdir()} == {OLDEST, NEW}


def test_prune_keeps_what_was_active_before_and_what_an_arm_serves(build: Path) -> None:
    assert offline(build, OLDEST) == OK
    assert offline(build, NEW) == OK
    paths = [build / "releases" / name for name in (NEW, OLDER)]
    write_served_repository(paths, NEW, build / "served", arms={"bold": OLDER})
    assert run(build, "prune", "--keep", "1") == OK

    assert {path.name for path in (build / "releases").iterdir()} == {OLDEST, OLDER, NEW}


def test_prune_keeps_the_release_whose_code_writes_events(build: Path) -> None:
    """Older releases have no models that write, so those of the last one that had them go on."""
    for name in ("0000000000a0", "0000000000a1"):
        folder = make_release(build, name)
        for model in ("record_event", "forget_user"):
            shutil.rmtree(folder / "models" / model)
        complete(folder, 0.1)
    for name in (OLDER, "0000000000a0", "0000000000a1"):
        assert offline(build, name) == OK
    assert run(build, "prune", "--keep", "1") == OK

    kept = {"0000000000a1", "0000000000a0", OLDER, NEW}
    assert {path.name for path in (build / "releases").iterdir()} == kept


def test_a_diff_shows_figures_settings_and_files(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build / "releases" / NEW
    (folder / "artifacts" / "extra.json").write_text("{}")
    (folder / "models" / "rank" / "config.pbtxt").unlink()
    complete(folder, 0.25, libraries={"numpy": "1.26.5"}, data={"events": 9, "first": 0, "last": 0})
    capsys.readouterr()
    assert run(build, "diff", OLD, NEW) == OK

    shown = [" ".join(line.split()) for line in lines(capsys)]
    assert "ndcg_10 0.1200 0.2500 +0.1300" in shown
    assert "data.events 1234 9" in shown
    assert "libraries.numpy 1.26.5" in shown
    assert "files in artifacts: 1 added" in shown
    assert "files in models: 1 missing" in shown


def test_the_help_shows_examples_and_exit_statuses(
    capsys: pytest.CaptureFixture[str], new_release: Callable[[str], Path]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])

    shown = capsys.readouterr().out
    assert "python tools/release.py activate latest" in shown
    assert "exit status: 0 done" in shown
