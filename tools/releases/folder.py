"""Which releases a build folder holds, and which one is meant."""

from __future__ import annotations

import json
from pathlib import Path

from python_backend.release import MANIFEST, Release

LATEST = "latest"


class NoReleaseError(LookupError):
    """There is no such release; the message says which there are."""


def find_releases(build: Path) -> list[Release]:
    """The finished releases in the folder `build`/releases, oldest first."""
    releases = [Release.open(path.parent.resolve()) for path in (build / "releases").glob(f"*/{MANIFEST}")]
    return sorted(releases, key=_finished)


def _finished(release: Release) -> tuple[str, int]:
    """When `release` was made; notes that are added to its manifest later do not make it newer."""
    manifest = release.path / MANIFEST
    created: str = json.loads(manifest.read_text(encoding="utf-8")).get("created", "")
    return created, manifest.stat().st_mtime_ns


def find_release(build: Path, name: str = LATEST) -> Release:
    """The release called `name` in `build`, or the one that was finished last.

    Raises NoReleaseError where there is none.
    """
    releases = find_releases(build)
    if not releases:
        raise NoReleaseError(
            f"no release in {build / 'releases'}; build one with: python tools/build_repo.py"
        )
    if name == LATEST:
        return releases[-1]
    for release in releases:
        if release.name == name:
            return release
    known = ", ".join(release.name for release in reversed(releases))
    raise NoReleaseError(f"no release {name} in {build / 'releases'}; there are, newest first: {known}")
