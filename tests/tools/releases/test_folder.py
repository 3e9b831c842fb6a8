"""Which release is meant."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.releases.folder import NoReleaseError, find_release, find_releases

OLD, NEW = "bbbbbbbbbbbb", "aaaaaaaaaaaa"


@pytest.fixture
def build(tmp_path: Path, new_release: Callable[[str], Path]) -> Path:
    for age, name in ((100, OLD), (0, NEW)):
        manifest = new_release(name) / "manifest.json"
        finished = manifest.stat().st_mtime - age
        os.utime(manifest, (finished, finished))
    return tmp_path


def test_the_latest_release_is_the_one_that_was_finished_last(build: Path) -> None:
    assert find_release(build).name == NEW
    assert [release.name for release in find_releases(build)] == [OLD, NEW]


def test_a_release_is_found_by_its_name(build: Path) -> None:
    assert find_release(build, OLD).path == build / "releases" / OLD


def test_a_release_that_is_not_finished_does_not_count(build: Path) -> None:
    (build / "releases" / NEW / "manifest.json").unlink()

    assert find_release(build).name == OLD


def test_an_unknown_name_is_answered_with_the_known_ones(build: Path) -> None:
    with pytest.raises(NoReleaseError, match=f"newest first: {NEW}, {OLD}"):
        find_release(build, "cccccccccccc")


def test_an_empty_build_folder_says_how_to_build(tmp_path: Path) -> None:
    with pytest.raises(NoReleaseError, match=r"python tools/build_repo\.py"):
        find_release(tmp_path)
