"""Two releases, the Triton that stands for the pods behind a Service, and what somebody else may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from kubernetes_api import Kubernetes

from python_backend.release import Release
from tools.releases.manifest import folder_hashes, read_manifest, write_manifest
from tools.serving.model_control import ModelControl
from tools.serving.served import ServedRepository

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
NO_DEMANDS = {"ndcg_10": {}, "coverage_20": {}}

Run = Callable[..., int]
"""Runs the command line: ``run(cluster, command, *arguments)``."""
Printed = pytest.CaptureFixture[str]


@dataclass
class Site:
    """A build folder with two releases, and the Triton that stands for the pods behind the Service."""

    build: Path
    address: str

    def serve(self, release: str) -> None:
        """What the Service leads to serves `release` now."""
        ServedRepository(self.build / "served").put_ensemble(
            Release.open(self.build / "releases" / release), "recommend"
        )
        with ModelControl(self.address) as triton:
            triton.load("recommend")


def finish(folder: Path) -> None:
    """Write a manifest by which the release in `folder` is whole and passes all gates."""
    manifest = {**read_manifest(folder), "gates": NO_DEMANDS, "files": folder_hashes(folder)}
    write_manifest(folder, manifest)


def told(release: str) -> Callable[[Kubernetes], None]:
    """Somebody else has the cluster serve `release`."""
    patch = {"spec": {"template": {"metadata": {"annotations": {"tritonrec/release": release}}}}}
    return lambda cluster: cluster.change(patch) and None
