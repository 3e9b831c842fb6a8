"""Importing releases: whole or not at all, from whatever folder they come."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.checks import CheckFailed
from tools.releases.folder import NoReleaseError, find_releases
from tools.releases.imports import import_release, release_in
from tools.releases.manifest import folder_hashes, verify, write_manifest

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
SIZES = {"candidates": 3, "results": 2}

KILLED = """
import os, signal, sys
from pathlib import Path
from tools.releases.imports import import_release, release_in

source, build, after = sys.argv[1:]

def progress(done, total):
    if done == int(after):
        os.kill(os.getpid(), signal.SIGKILL)

import_release(release_in(Path(source)), Path(build), progress)
"""


def make(folder: Path, name: str, created: str) -> Path:
    """A finished release of a few files."""
    (folder / "artifacts" / "graphs").mkdir(parents=True)
    for number in range(4):
        (folder / "artifacts" / "graphs" / f"{number}.onnx").write_text(f"{name} {number}")
    (folder / "golden.npz").write_text(name)
    manifest = {"release": name, "sizes": SIZES, "created": created, "files": folder_hashes(folder)}
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A build folder with two releases."""
    folder = tmp_path / "elsewhere"
    make(folder / "releases" / NEW, NEW, "2026-02-01")
    make(folder / "releases" / OLD, OLD, "2026-01-01")
    return folder


def test_a_release_arrives_whole_and_under_its_name(elsewhere: Path, tmp_path: Path) -> None:
    release, copied = import_release(release_in(elsewhere), tmp_path / "volume")
    assert (release.name, copied) == (NEW, True)
    assert release.path == tmp_path / "volume" / "releases" / NEW
    assert list(verify(release.path)) == []
    assert [path.name for path in release.path.parent.iterdir()] == [NEW]


def test_importing_again_copies_nothing(elsewhere: Path, tmp_path: Path) -> None:
    first, _ = import_release(release_in(elsewhere), tmp_path / "volume")
    before = (first.path / "golden.npz").stat().st_mtime_ns
    release, copied = import_release(release_in(elsewhere), tmp_path / "volume")
    assert (release, copied) == (first, False)
    assert (release.path / "golden.npz").stat().st_mtime_ns == before


@pytest.mark.parametrize("below", ["", "releases", f"releases/{OLD}"])
def test_a_release_is_found_in_a_build_folder_among_others_and_alone(elsewhere: Path, below: str) -> None:
    assert release_in(elsewhere / below, OLD).name == OLD


def test_a_release_that_is_not_there_is_told_with_those_that_are(elsewhere: Path, tmp_path: Path) -> None:
    with pytest.raises(NoReleaseError, match=f"no release ffffffffffff in .*newest first: {NEW}, {OLD}"):
        release_in(elsewhere, "ffffffffffff")
    with pytest.raises(NoReleaseError, match="nor in folders of it"):
        release_in(tmp_path / "nowhere")


def test_a_release_that_was_changed_does_not_arrive(elsewhere: Path, tmp_path: Path) -> None:
    (elsewhere / "releases" / NEW / "golden.npz").write_text("another")
    (elsewhere / "releases" / NEW / "artifacts" / "graphs" / "2.onnx").unlink()
    with pytest.raises(CheckFailed, match=r"artifacts/graphs/2.onnx: is missing; golden.npz: was changed"):
        import_release(release_in(elsewhere), tmp_path / "volume")
    assert list((tmp_path / "volume" / "releases").iterdir()) == []


def test_what_else_lies_in_the_source_stays_there(elsewhere: Path, tmp_path: Path) -> None:
    (elsewhere / "releases" / NEW / "lost+found").mkdir()
    (elsewhere / "releases" / NEW / ".DS_Store").touch()
    release, _ = import_release(release_in(elsewhere), tmp_path / "volume")
    assert list(verify(release.path)) == []


def test_a_source_that_may_only_be_read_gives_folders_that_can_be_removed(
    elsewhere: Path, tmp_path: Path
) -> None:
    graphs = elsewhere / "releases" / NEW / "artifacts" / "graphs"
    graphs.chmod(0o555)
    release, _ = import_release(release_in(elsewhere), tmp_path / "volume")
    graphs.chmod(0o755)
    assert (release.path / "artifacts" / "graphs").stat().st_mode & 0o200
    shutil.rmtree(release.path)


def test_a_manifest_that_lists_files_outside_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    manifest = elsewhere / "releases" / NEW / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"]["../../evil"] = "0"
    manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"lists ../../evil, which is no file of the release"):
        import_release(release_in(elsewhere), tmp_path / "volume")


@pytest.mark.parametrize("after", [1, 5, 6])
def test_whoever_is_killed_leaves_nothing_that_is_taken_for_a_release(
    elsewhere: Path, tmp_path: Path, after: int
) -> None:
    volume = tmp_path / "volume"
    command = [sys.executable, "-c", KILLED, str(elsewhere), str(volume), str(after)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert find_releases(volume) == []
    release, copied = import_release(release_in(elsewhere), volume)
    assert copied
    assert [path.name for path in release.path.parent.iterdir()] == [NEW]


def test_a_release_that_was_changed_on_the_volume_is_told(elsewhere: Path, tmp_path: Path) -> None:
    release, _ = import_release(release_in(elsewhere), tmp_path / "volume")
    (release.path / "golden.npz").write_text("another")
    with pytest.raises(CheckFailed, match=r"golden.npz: was changed"):
        import_release(release_in(elsewhere), tmp_path / "volume")
