"""The releases of a build folder: what each is, which part it plays, and which may go."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_backend.release import MANIFEST
from tools.plans.cache import FOLDER as PLANS
from tools.releases.manifest import read_manifest
from tools.serving.history import previous_release
from tools.serving.served import ServedRepository

REMOVED = ".removed-"


@dataclass(frozen=True, slots=True)
class Entry:
    """One release: its manifest, the parts that it plays, and what is wrong with it where it is broken."""

    name: str
    manifest: Mapping[str, Any]
    parts: tuple[str, ...] = ()
    problem: str | None = None

    def figure(self, metric: str) -> float | None:
        """The figure `metric` of its headline metrics; None where it is not known."""
        value = self.manifest.get("metrics", {}).get("headline", {}).get(metric)
        value = value.get("mean") if isinstance(value, Mapping) else value
        return float(value) if isinstance(value, int | float) else None


def catalogue(build: Path) -> list[Entry]:
    """Every release of the folder `build`, newest first; the broken ones, which have no time, last."""
    parts = parts_played(build)
    entries, broken = [], []
    for folder in (build / "releases").glob("[0-9a-f]*/"):
        try:
            manifest = read_manifest(folder)
            if manifest["release"] != folder.name:
                raise ValueError(f"{MANIFEST} is that of release {manifest['release']}")
            if "files" not in manifest:
                raise ValueError(f"{MANIFEST} lists no files; the release was not finished")
        except (OSError, ValueError) as error:
            broken.append(Entry(folder.name, {}, tuple(parts.get(folder.name, ())), str(error)))
            continue
        forced = ["forced"] if manifest.get("forced") else []
        entries.append(Entry(folder.name, manifest, (*parts.get(folder.name, ()), *forced)))
    entries.sort(key=lambda entry: _age(build, entry), reverse=True)
    return entries + sorted(broken, key=lambda entry: entry.name)


def parts_played(build: Path) -> dict[str, list[str]]:
    """What each release of `build` that is in use is used for: active, previous, an arm, writing events."""
    served = ServedRepository(build / "served")
    parts: dict[str, list[str]] = {}
    active = served.active
    if active is not None:
        parts.setdefault(active, []).append("active")
        previous = previous_release(build, active)
        if previous is not None:
            parts.setdefault(previous, []).append("previous")
    for arm, release in served.arms.items():
        parts.setdefault(release, []).append(f"arm {arm}")
    for model, folder in served.standalone.items():
        if folder.name != active:
            parts.setdefault(folder.name, []).append(model)
    return parts


def prunable(build: Path, keep: int) -> list[Path]:
    """The folders of releases that may go: none of the `keep` newest, none in use, none that is broken."""
    whole = [entry for entry in catalogue(build) if entry.problem is None]
    used = parts_played(build)
    return [build / "releases" / entry.name for entry in whole[keep:] if entry.name not in used]


def remove_release(folder: Path) -> None:
    """Remove a release's folder; it stops being one in one step. Its TensorRT plans go, too."""
    for leftover in folder.parent.glob(f"{REMOVED}*"):
        shutil.rmtree(leftover)
    gone = Path(tempfile.mkdtemp(prefix=REMOVED, dir=folder.parent))
    folder.rename(gone / folder.name)
    shutil.rmtree(gone)
    shutil.rmtree(folder.parent.parent / PLANS / folder.name, ignore_errors=True)


def _age(build: Path, entry: Entry) -> tuple[str, int]:
    """Sorts as `find_releases` does, which does without broken releases."""
    manifest = build / "releases" / entry.name / MANIFEST
    return str(entry.manifest.get("created", "")), manifest.stat().st_mtime_ns
