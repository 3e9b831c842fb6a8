"""What a rollout refuses before it changes anything, and what it tells without changing anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from kubernetes_api import Kubernetes
from pod_life import deployment_of
from rollout_site import NEW, OLD, Printed, Run, Site, told

from tools.releases.golden import GOLDEN
from tools.releases.manifest import read_manifest, write_manifest
from tools.rollout import BAD_USAGE, NOT_SERVED, OK, main

pytestmark = pytest.mark.server


def test_nothing_is_changed_by_setting_what_is_served(cluster: Kubernetes, run: Run) -> None:
    assert run(cluster, "set", OLD) == OK
    assert cluster.patches == []


def test_what_was_taken_back_is_not_the_latest_to_try_again_but_may_be_named(
    cluster: Kubernetes, run: Run, capsys: Printed
) -> None:
    cluster.behaviour[NEW] = "crash"
    assert run(cluster, "set", "latest") == NOT_SERVED
    assert cluster.release == OLD
    assert run(cluster, "set", "latest") == NOT_SERVED
    assert f"release {NEW} was taken back before; to try it again, name it" in capsys.readouterr().err
    assert len(cluster.patches) == 2
    cluster.behaviour[NEW] = "ready"
    assert run(cluster, "set", NEW) == OK
    assert cluster.deployment is not None
    assert "tritonrec/release-failed" not in cluster.deployment["metadata"]["annotations"]


def test_a_dry_run_prints_the_patch_and_has_the_cluster_check_it(
    cluster: Kubernetes, run: Run, capsys: Printed
) -> None:
    assert run(cluster, "set", NEW, "--dry-run") == OK
    patch = json.loads(capsys.readouterr().out)
    assert patch["spec"] == {"template": {"metadata": {"annotations": {"tritonrec/release": NEW}}}}
    assert patch["metadata"]["resourceVersion"]
    assert any("dryRun=All" in request for request in cluster.requests)
    assert cluster.patches == []
    assert cluster.release == OLD


@pytest.mark.parametrize(
    ("verb", "resource"), [("get", "deployments"), ("patch", "deployments"), ("list", "pods")]
)
def test_a_missing_permission_is_told_in_one_line(
    cluster: Kubernetes, run: Run, capsys: Printed, verb: str, resource: str
) -> None:
    cluster.forbidden.add((verb, resource))
    assert run(cluster, "set", NEW, "--dry-run") == BAD_USAGE
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rollout.py: ")]
    assert len(told) == 1
    assert f"no permission: {resource} is forbidden" in told[0]


def test_a_deployment_that_is_not_there_is_told_in_one_line(run: Run, capsys: Printed) -> None:
    with Kubernetes(None) as cluster:
        assert run(cluster, "set", NEW) == BAD_USAGE
    assert capsys.readouterr().err == (
        'rollout.py: reading deployment tritonrec/tritonrec: deployments.apps "tritonrec" not found\n'
    )


def test_a_deployment_that_would_not_serve_what_it_is_told_is_refused(run: Run, capsys: Printed) -> None:
    other = deployment_of(OLD)
    other["spec"]["template"]["spec"]["containers"][1]["env"] = [{"name": "TRITONREC_RELEASE", "value": OLD}]
    with Kubernetes(other) as cluster:
        assert run(cluster, "set", NEW) == BAD_USAGE
    assert "does not read TRITONREC_RELEASE from the annotation tritonrec/release" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"paused": True}, "is paused; first: kubectl rollout resume"), ({"replicas": 0}, "has 0 replicas")],
)
def test_a_deployment_that_cannot_roll_is_refused(
    cluster: Kubernetes, run: Run, capsys: Printed, change: dict[str, object], reason: str
) -> None:
    cluster.change({"spec": change})
    assert run(cluster, "set", NEW) == BAD_USAGE
    assert reason in capsys.readouterr().err
    assert cluster.patches == []


def test_a_release_that_was_changed_is_not_rolled_out(
    cluster: Kubernetes, site: Site, run: Run, capsys: Printed, tmp_path: Path
) -> None:
    shutil.copytree(site.build / "releases", tmp_path / "build" / "releases")
    (tmp_path / "build" / "releases" / NEW / "artifacts" / "stray").touch()
    assert run(cluster, "set", NEW, build=tmp_path / "build") == NOT_SERVED
    assert "artifacts/stray: is not part of the release" in capsys.readouterr().err
    assert cluster.patches == []


def test_a_release_that_fails_its_gates_needs_a_reason(
    cluster: Kubernetes, site: Site, run: Run, capsys: Printed, tmp_path: Path
) -> None:
    shutil.copytree(site.build / "releases", tmp_path / "build" / "releases")
    folder = tmp_path / "build" / "releases" / NEW
    write_manifest(folder, {**read_manifest(folder), "gates": {"ndcg_10": {"least": 0.5}}})
    assert run(cluster, "set", NEW, build=tmp_path / "build") == NOT_SERVED
    assert f"release {NEW} does not pass ndcg_10" in capsys.readouterr().err
    assert run(cluster, "set", NEW, "--force", build=tmp_path / "build") == BAD_USAGE
    assert run(cluster, "set", NEW, "--force", "--reason", "a trial", build=tmp_path / "build") == OK


def test_without_golden_requests_nothing_begins(
    cluster: Kubernetes, site: Site, run: Run, capsys: Printed, tmp_path: Path
) -> None:
    shutil.copytree(site.build / "releases", tmp_path / "build" / "releases")
    (tmp_path / "build" / "releases" / NEW / GOLDEN).unlink()
    assert run(cluster, "set", NEW, build=tmp_path / "build") == NOT_SERVED
    assert "brings no golden.npz; build it again" in capsys.readouterr().err


def test_a_service_that_cannot_be_asked_is_found_out_before_anything_changes(
    cluster: Kubernetes, site: Site, tmp_path: Path, capsys: Printed
) -> None:
    kubeconfig = str(cluster.kubeconfig(tmp_path))
    words = ["set", NEW, "--kubeconfig", kubeconfig, "--build", str(site.build), "--address", "localhost:1"]
    assert main(words) == NOT_SERVED
    assert "localhost:1: " in capsys.readouterr().err
    assert cluster.patches == []


def test_status_tells_what_is_served_and_what_is_in_the_way(
    cluster: Kubernetes, run: Run, capsys: Printed
) -> None:
    assert run(cluster, "status") == OK
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"release   {OLD}, before it unknown",
        "pods      2 of 2 serve it",
    ]
    cluster.behaviour[NEW] = "unschedulable"
    told(NEW)(cluster)
    with cluster.changed:
        cluster.changed.wait_for(lambda: len(cluster.pods.alive) == 3, timeout=5)
    assert run(cluster, "status") == NOT_SERVED
    printed = capsys.readouterr().out
    assert "pods      0 of 2 serve it: 1 of 2 pods are new" in printed
    assert "has no node: 0/3 nodes are available" in printed
    assert f"answers   release {OLD}" in printed


def test_without_a_way_to_a_cluster_it_says_how_to_name_one(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    assert main(["status"]) == BAD_USAGE
    error = capsys.readouterr().err
    assert "name a kubeconfig with --kubeconfig or KUBECONFIG" in error
    assert error.count("\n") == 1


def test_an_api_that_is_not_there_is_told_in_one_line(run: Run, capsys: Printed) -> None:
    with Kubernetes(deployment_of(OLD)) as cluster:
        pass
    assert run(cluster, "status") == BAD_USAGE
    error = capsys.readouterr().err
    assert "reading deployment tritonrec/tritonrec: the API does not answer" in error
    assert error.count("\n") == 1
