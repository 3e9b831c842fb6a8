"""What a release must hold to be served in a profile."""

from __future__ import annotations

from collections.abc import Iterable

from python_backend.release import Release
from tools.serving.repository import RepositoryError
from tools.serving.server import GPU_TORCH

ARTIFACTS = {GPU_TORCH: "gpu_torch"}
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
