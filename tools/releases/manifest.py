"""A release's manifest: what it is made of, from what, and the proof that nothing was changed since."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from python_backend.release import MANIFEST, Release

LIBRARIES = ("numpy", "torch", "onnx", "onnxruntime", "pandas", "pyarrow", "nvidia-pytriton", "tritonclient")
CHUNK = 1 << 20


def file_hash(path: Path) -> str:
    """The BLAKE2b-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def combined_hash(parts: Iterable[str]) -> str:
    """One BLAKE2b-256 of `parts`, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def folder_hashes(folder: Path) -> dict[str, str]:
    """The hash of every file below `folder` but its manifest, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): file_hash(path) for path in paths if path != folder / MANIFEST}


def library_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that a release's content depends on."""
    versions = {library: importlib.metadata.version(library) for library in LIBRARIES}
    return {"python": platform.python_version(), **versions}


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as the manifest of the release in `folder`, in one step."""
    fresh = folder / f".{MANIFEST}.{os.getpid()}"
    fresh.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the release in `folder`. Raises what `Release.open` raises."""
    release = Release.open(folder)
    content: dict[str, Any] = json.loads((release.path / MANIFEST).read_text(encoding="utf-8"))
    return content


def note_forced(folder: Path, reason: str, failed: Sequence[str]) -> None:
    """Note in the manifest that the release in `folder` was activated although it `failed` gates, and why.

    The file keeps its time, by which releases are ordered.
    """
    content = read_manifest(folder)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    content.setdefault("forced", []).append({"reason": reason, "at": at, "failed": list(failed)})
    _note(folder, content)


def note_gpu(folder: Path, facts: Mapping[str, Any]) -> None:
    """Note in the manifest what TensorRT made of the graphs of the release in `folder` where it was built.

    The file keeps its time.
    """
    content = read_manifest(folder)
    content["gpu"] |= facts
    _note(folder, content)


def _note(folder: Path, content: Mapping[str, Any]) -> None:
    before = (folder / MANIFEST).stat()
    write_manifest(folder, content)
    os.utime(folder / MANIFEST, ns=(before.st_atime_ns, before.st_mtime_ns))


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that is not as its release's manifest says."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def verify(folder: Path) -> Iterator[Difference]:
    """Every file of the release in `folder` that was changed, removed or added since it was built.

    Raises what `Release.open` raises, and ValueError where the manifest lists no files.
    """
    expected: dict[str, str] | None = read_manifest(folder).get("files")
    if expected is None:
        raise ValueError(f"{folder / MANIFEST}: lists no files; the release was not finished")
    found = folder_hashes(folder)
    for path in sorted(expected.keys() | found.keys()):
        if path not in found:
            yield Difference(path, "is missing")
        elif path not in expected:
            yield Difference(path, "is not part of the release")
        elif found[path] != expected[path]:
            yield Difference(path, "was changed")
