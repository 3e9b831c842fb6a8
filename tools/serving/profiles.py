"""What a release must hold to be served in a profile."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from python_backend.release import Release
from tools.plans.capability import Capability
from tools.plans.placing import PlanSource
from tools.serving.model_files import RepositoryError
from tools.serving.server import GPU, GPU_TORCH
from tools.serving.wheel import TritonWheel

ARTIFACTS = {GPU: "gpu", GPU_TORCH: "gpu_torch"}
"""The folder among a release's artifacts that a profile needs beyond those that every release has."""


def require_artifacts(profile: str, releases: Iterable[Release]) -> None:
    """Raise RepositoryError where one of `releases` was not built for `profile`."""
    folder = ARTIFACTS.get(profile)
    for release in releases:
        if folder and not (release.artifacts / folder).is_dir():
            raise RepositoryError(
                f"release {release.name} has no artifacts/{folder}, which profile {profile} needs;"
                f" build one that has: python tools/build_repo.py --config YOURS.toml --profile {profile}"
            )


def plans_for(profile: str, folder: Path, capability: Capability | None = None) -> PlanSource | None:
    """Which of the plans in `folder` the server of this machine needs in `profile`; None where it needs none.

    Plans are for the card that is here, or for `capability`. Raises ServerUnavailableError where the server
    has no TensorRT, LibraryMissing where Python has none that tells its version, NoCard and PlanRefused.
    """
    if profile != GPU:
        return None
    TritonWheel.find().require_backend("tensorrt")
    return PlanSource.here(folder, capability)
