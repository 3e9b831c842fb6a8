"""A small Kubernetes with a real Triton behind its Service, and the command line to roll releases out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes_api import Kubernetes
from pod_life import deployment_of
from rollout_site import NEW, OLD, Site, finish
from toy_release import ROOT, make_release

from python_backend.release import Release
from tools.cluster import rollout
from tools.releases.golden import write_golden
from tools.rollout import main
from tools.serving.repository import write_served_repository
from tools.serving.server import STAGED, TritonServer

ROLE = ROOT / "k8s" / "base" / "rollout-role.yaml"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    build = tmp_path_factory.mktemp("rollout")
    folders = [make_release(build, name) for name in (OLD, NEW)]
    write_served_repository(folders, OLD, build / "served")
    with TritonServer(
        build / "served", log=build / "triton.log", backends=build / "backends", profile=STAGED
    ) as triton:
        for folder in folders:
            with triton.client() as client:
                write_golden(folder, client, Release.open(folder), [[], [1], [2, 3]])
            finish(folder)
        yield Site(build, triton.address)


@pytest.fixture
def cluster(site: Site) -> Iterator[Kubernetes]:
    """A cluster that serves the old release, and whose Service answers with what its pods serve.

    Callers may do there what the job of a rollout may do, and nothing else.
    """
    site.serve(OLD)
    rules = yaml.safe_load(ROLE.read_text())["rules"]
    with Kubernetes(deployment_of(OLD), on_complete=site.serve, rules=rules) as kubernetes:
        yield kubernetes


@pytest.fixture
def run(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command line against a cluster, where everything takes less than it does in a real one."""
    monkeypatch.setattr(rollout, "LOOK", 1)
    monkeypatch.setattr(rollout, "PAUSE", 0.1)

    def run(cluster: Kubernetes, command: str, *arguments: str, build: Path | None = None) -> int:
        words = [command, *arguments, "--kubeconfig", str(cluster.kubeconfig(tmp_path))]
        words += ["--address", site.address, "--settle", "1"]
        return main(words if command == "status" else [*words, "--build", str(build or site.build)])

    return run
