"""The first step of a pod."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from toy_release import make_release

from tools import verify_release
from tools.releases.manifest import folder_hashes

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


def whole(build: Path, name: str, created: str) -> Path:
    path = make_release(build, name)
    content = json.loads((path / "manifest.json").read_text()) | {
        "files": folder_hashes(path),
        "created": created,
    }
    (path / "manifest.json").write_text(json.dumps(content))
    return path


def run(build: Path, *words: str) -> int:
    return verify_release.main([f"--build={build}", f"--note={build / 'note'}", *words])


def noted(build: Path) -> str:
    return (build / "note").read_text().strip()


def test_without_a_name_it_is_the_first_so_that_pods_of_one_deployment_agree(tmp_path: Path) -> None:
    whole(tmp_path, NEW, "2026-02-01T00:00:00+00:00")
    whole(tmp_path, OLD, "2026-01-01T00:00:00+00:00")

    assert run(tmp_path, "--release=") == verify_release.OK
    assert noted(tmp_path) == OLD


def test_a_name_is_taken_by_its_word(tmp_path: Path) -> None:
    for name in (OLD, NEW):
        whole(tmp_path, name, "2026-01-01T00:00:00+00:00")

    assert run(tmp_path, f"--release={NEW}") == verify_release.OK
    assert noted(tmp_path) == NEW


def test_a_file_that_was_changed_is_named_and_nothing_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (whole(tmp_path, OLD, "2026-01-01T00:00:00+00:00") / "code" / "added.py").touch()

    assert run(tmp_path) == verify_release.CHANGED
    assert "code/added.py: is not part of the release" in capsys.readouterr().err
    assert not (tmp_path / "note").exists()


def test_it_waits_for_the_first_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_release, "LOOK_AGAIN", 0.02)
    (tmp_path / "elsewhere").mkdir()
    path = whole(tmp_path / "elsewhere", OLD, "2026-01-01T00:00:00+00:00")
    (tmp_path / "releases").mkdir()
    threading.Timer(0.1, lambda: path.rename(tmp_path / "releases" / OLD)).start()

    assert run(tmp_path) == verify_release.OK
    assert noted(tmp_path) == OLD


def test_it_does_not_wait_for_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.monotonic()

    assert run(tmp_path, "--release=cccccccccccc", "--wait=0") == verify_release.CHANGED
    assert "no release cccccccccccc in" in capsys.readouterr().err
    assert time.monotonic() - begin < 5
