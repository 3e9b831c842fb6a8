"""The graphs that plans are made from: where they lie in a release, and what a release says about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from python_backend.release import Release
from tools.releases.manifest import file_hash, read_manifest

STAGES = ("retrieve", "rank")
"""The stages that TensorRT computes."""
FOLDER = "gpu"
"""Where their graphs lie among a release's artifacts."""
PROFILE = "gpu"


class NoGraphsError(ValueError):
    """A release that holds no graphs for TensorRT; the message says how to build one that does."""


@dataclass(frozen=True)
class Graphs:
    """The graphs of one release.

    `precision` is the [gpu] section's, `optimum_batch` and `most_rows` are rows of a batch, `hashes` those of
    each stage's files.
    """

    release: Release
    precision: str
    optimum_batch: int
    most_rows: int
    hashes: Mapping[str, str]

    @classmethod
    def of(cls, release: Release) -> Self:
        """Those of `release`. Raises NoGraphsError."""
        content = read_manifest(release.path)
        missing = [stage for stage in STAGES if not (release.artifacts / FOLDER / f"{stage}.onnx").is_file()]
        if missing or "gpu" not in content:
            raise NoGraphsError(
                f"release {release.name} has no artifacts/{FOLDER}/{(missing or STAGES)[0]}.onnx, which"
                f" profile {PROFILE} needs; build one that has:"
                f" python tools/build_repo.py --config YOURS.toml --profile {PROFILE}"
            )
        facts: dict[str, Any] = content["gpu"]
        hashes = {stage: _hash(release, stage, content.get("files", {})) for stage in STAGES}
        return cls(release, facts["precision"], facts["optimum_batch"], facts["most_rows"], hashes)

    def path(self, stage: str) -> Path:
        """The ONNX file of `stage`; what is large in it lies beside it."""
        return self.release.artifacts / FOLDER / f"{stage}.onnx"


def _hash(release: Release, stage: str, files: Mapping[str, str]) -> str:
    """What the graph of `stage` is, in one hash: of the manifest where it lists it, which is recomputed
    whenever a release is verified, else of the file itself."""
    names = [f"artifacts/{FOLDER}/{stage}{suffix}" for suffix in (".onnx", ".weights")]
    return " ".join(
        files.get(name) or file_hash(release.path / name)
        for name in names
        if name in files or (release.path / name).is_file()
    )
