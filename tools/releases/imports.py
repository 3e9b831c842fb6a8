"""Importing: a release from elsewhere (a folder, an image, a bucket that is mounted) into a build folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from python_backend.release import MANIFEST, Release
from tools.checks import CheckFailed
from tools.releases.drafts import draft_in
from tools.releases.folder import LATEST, NoReleaseError
from tools.releases.manifest import read_manifest, verify

Progress = Callable[[int, int], None]
"""Called with (files copied, files in all)."""


def release_in(source: Path, name: str = LATEST) -> Release:
    """The release called `name` in `source`: a release's folder, a folder of such, or a build folder.

    Raises NoReleaseError where it is not there, and ValueError where a manifest cannot be read.
    """
    manifests = [path for depth in ("", "*/", "releases/*/") for path in source.glob(f"{depth}{MANIFEST}")]
    found = {release.name: release for release in (Release.open(path.parent) for path in manifests)}
    if not found:
        raise NoReleaseError(f"no release in {source}, nor in folders of it")
    ages = {each: str(read_manifest(release.path).get("created", "")) for each, release in found.items()}
    known = sorted(found, key=lambda each: ages[each], reverse=True)
    if name == LATEST:
        return found[known[0]]
    if name not in found:
        raise NoReleaseError(f"no release {name} in {source}; there are, newest first: {', '.join(known)}")
    return found[name]


def import_release(
    source: Release, build: Path, progress: Progress = lambda done, total: None
) -> tuple[Release, bool]:
    """Copy `source` to ``build/releases``; that release there, and whether it had to be copied.

    It is copied under a temporary name, its hashes are recomputed from what arrived, and it gets its name in
    one step: what has a name there is whole, whoever is killed when. Raises CheckFailed where what arrived,
    or what was there already, is not what was built, and ValueError where its manifest lists no files.
    """
    target = build / "releases" / source.name
    if (target / MANIFEST).is_file():
        _require_whole(target)
        return Release.open(target), False
    with draft_in(build / "releases") as draft:
        _copy(source.path, draft, progress)
        _require_whole(draft)
        try:
            draft.rename(target)
        except OSError:
            if not (target / MANIFEST).is_file():
                raise
            _require_whole(target)  # somebody else was faster
            return Release.open(target), False
        _sync(target.parent)
    return Release.open(target), True


def _copy(source: Path, target: Path, progress: Progress) -> None:
    """Copy the files that the manifest in `source` lists, and the manifest; nothing else that lies there.

    Only their bytes: an image's folders may be read-only, and a bucket knows no permissions.
    """
    names = [*read_manifest(source).get("files", {}), MANIFEST]
    for number, name in enumerate(names):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{source / MANIFEST}: lists {name}, which is no file of the release")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_file():  # one that is missing is told with all others
            shutil.copyfile(source / name, target / name)
            _sync(target / name)
        progress(number + 1, len(names))


def _sync(path: Path) -> None:
    """Have `path` on disk: a release with a name must be whole after a power failure, too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_whole(folder: Path) -> None:
    differences = [str(difference) for difference in verify(folder)]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise CheckFailed(f"{folder} is not what was built: {'; '.join(differences[:3])}{more}")
