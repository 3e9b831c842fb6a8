"""Rollouts by the command line: a small Kubernetes that acts as a real one, and a real Triton behind it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from kubernetes_api import Kubernetes, deployment_of
from toy_release import ROOT, make_release

from python_backend.release import Release
from tools.cluster import rollout
from tools.releases.golden import GOLDEN, write_golden
from tools.releases.manifest import folder_hashes, read_manifest, write_manifest
from tools.rollout import BAD_USAGE, BROKEN, NOT_SERVED, OK, main
from tools.serving.model_control import ModelControl
from tools.serving.repository import write_served_repository
from tools.serving.served import ServedRepository
from tools.serving.server import STAGED, TritonServer

pytestmark = pytest.mark.server

ROLE = ROOT / "k8s" / "base" / "rollout-role.yaml"
OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
NO_DEMANDS = {"ndcg_10": {}, "coverage_20": {}}


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


@pytest.fixture(scope="module")
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


def finish(folder: Path) -> None:
    manifest = {**read_manifest(folder), "gates": NO_DEMANDS, "files": folder_hashes(folder)}
    write_manifest(folder, manifest)


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


Run = Callable[..., int]
Printed = pytest.CaptureFixture[str]


def test_a_release_is_rolled_out_and_the_one_before_it_is_noted(
    cluster: Kubernetes, run: Run, capsys: Printed
) -> None:
    assert run(cluster, "set", NEW) == OK
    assert cluster.served == {NEW}
    assert cluster.deployment is not None
    assert cluster.deployment["metadata"]["annotations"] == {
        "team": "shop",
        "tritonrec/release-before": OLD,
        "kubernetes.io/change-cause": f"release {NEW}, after {OLD}",
    }
    assert f"deployment tritonrec/tritonrec serves release {NEW}" in capsys.readouterr().out
    assert any("watch=true" in request for request in cluster.requests)


def test_going_back_by_hand_is_a_rollout_to_the_one_before(cluster: Kubernetes, run: Run) -> None:
    assert run(cluster, "set", NEW) == OK
    assert run(cluster, "rollback") == OK
    assert cluster.served == {OLD}
    assert run(cluster, "rollback") == OK
    assert cluster.served == {NEW}


def test_nothing_is_changed_by_setting_what_is_served(cluster: Kubernetes, run: Run) -> None:
    assert run(cluster, "set", OLD) == OK
    assert cluster.patches == []


def test_the_latest_release_can_be_set_by_that_word(cluster: Kubernetes, run: Run) -> None:
    assert run(cluster, "set", "latest") == OK
    assert cluster.served == {NEW}


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


def test_a_deployment_that_was_never_told_a_release_goes_back_to_what_it_serves(site: Site, run: Run) -> None:
    site.serve(OLD)
    with Kubernetes(deployment_of(None), {NEW: "crash"}, on_complete=site.serve) as cluster:
        assert run(cluster, "set", NEW) == NOT_SERVED
        assert cluster.release == OLD


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


@pytest.mark.parametrize("container", ["crash", "init crash"])
def test_pods_that_die_again_and_again_are_taken_back_with_their_last_words(
    cluster: Kubernetes, run: Run, capsys: Printed, container: str
) -> None:
    cluster.behaviour[NEW] = container
    assert run(cluster, "set", NEW) == NOT_SERVED
    error = capsys.readouterr().err
    name = "verify" if container == "init crash" else "triton"
    assert f"container {name} of pod tritonrec-" in error
    assert "exit code 1 (Error): release 0123456789ab: artifacts/rank.onnx was changed" in error
    assert f"release {OLD} serves again" in error
    assert cluster.served == {OLD}
    assert len(cluster.pods.alive) == 2


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("unready", "runs but is not ready"),
        ("init waits", "has not ended"),
        ("unschedulable", "3 Insufficient nvidia.com/gpu"),
    ],
)
def test_a_rollout_that_is_stuck_is_taken_back_with_what_is_in_its_way(
    site: Site, run: Run, capsys: Printed, behaviour: str, reason: str
) -> None:
    site.serve(OLD)
    with Kubernetes(deployment_of(OLD, deadline=1), {NEW: behaviour}, on_complete=site.serve) as cluster:
        assert run(cluster, "set", NEW) == NOT_SERVED
        error = capsys.readouterr().err
        assert "no progress for 1 s (1 of 2 pods are new, 0 available)" in error
        assert reason in error
        assert cluster.served == {OLD}


def test_a_release_that_answers_otherwise_than_it_did_is_taken_back(
    cluster: Kubernetes, site: Site, run: Run, capsys: Printed, tmp_path: Path
) -> None:
    build = tmp_path / "build"
    shutil.copytree(site.build / "releases", build / "releases")
    folder = build / "releases" / NEW
    with np.load(folder / GOLDEN) as arrays:
        kept = dict(arrays)
    kept["recommend/item_id"][2] = kept["recommend/item_id"][2, ::-1]
    kept["recommend/score"][2] = [0.9, 0.8, 0.7, 0.6, 0.5]
    np.savez(folder / GOLDEN, **kept)
    finish(folder)
    assert run(cluster, "set", NEW, build=build) == NOT_SERVED
    error = capsys.readouterr().err
    assert "golden requests: recommend, request 3 (session of 2, 3, diversity 0)" in error
    assert cluster.served == {OLD}


def test_pods_that_serve_another_release_than_they_are_told_are_taken_back(
    cluster: Kubernetes, run: Run, capsys: Printed
) -> None:
    cluster.on_complete = lambda release: None  # the Service leads elsewhere: to the old one still
    assert run(cluster, "set", NEW) == NOT_SERVED
    assert f"is {OLD}; expected {NEW}" in capsys.readouterr().err
    assert cluster.release == OLD


def test_a_watch_that_breaks_in_the_middle_of_a_line_is_begun_again(
    cluster: Kubernetes, run: Run, capsys: Printed
) -> None:
    cluster.cut_watches = 1
    assert run(cluster, "set", NEW) == OK
    assert cluster.cut_watches == 0
    assert (
        "watching deployment tritonrec/tritonrec: the connection was lost; asking again"
        in capsys.readouterr().out
    )


def test_a_watch_that_begins_too_early_is_begun_again(cluster: Kubernetes, run: Run) -> None:
    cluster.expired_watches = 1
    assert run(cluster, "set", NEW) == OK
    assert cluster.expired_watches == 0


def test_an_api_that_does_not_answer_while_pods_roll_is_waited_for(cluster: Kubernetes, run: Run) -> None:
    cluster.before_patch = [lambda cluster: setattr(cluster, "refuse", 2)]
    assert run(cluster, "set", NEW) == OK
    assert cluster.refuse == 0


def test_a_change_that_somebody_else_makes_at_the_same_time_is_kept(cluster: Kubernetes, run: Run) -> None:
    def scale(cluster: Kubernetes) -> None:
        cluster.change({"spec": {"replicas": 3}})

    cluster.before_patch = [scale]
    assert run(cluster, "set", NEW) == OK
    assert cluster.deployment is not None
    assert cluster.deployment["spec"]["replicas"] == 3
    assert sum("PATCH" in request for request in cluster.requests) >= 2
    assert len(cluster.patches) == 1


def told(release: str) -> Callable[[Kubernetes], None]:
    """Somebody else has the cluster serve `release`."""
    patch = {"spec": {"template": {"metadata": {"annotations": {"tritonrec/release": release}}}}}
    return lambda cluster: cluster.change(patch) and None


def test_a_release_that_somebody_else_sets_at_the_same_time_is_left_alone(
    cluster: Kubernetes, run: Run, capsys: Printed
) -> None:
    cluster.before_patch = [told("cccccccccccc")]
    assert run(cluster, "set", NEW) == NOT_SERVED
    assert (
        "somebody else has just had deployment tritonrec/tritonrec serve cccccccccccc"
        in capsys.readouterr().err
    )
    assert cluster.patches == []


def test_a_rollout_that_is_overtaken_by_another_steps_aside(
    cluster: Kubernetes, run: Run, capsys: Printed
) -> None:
    cluster.on_complete = lambda release: None
    cluster.behaviour[NEW] = "unready"

    def overtake(cluster: Kubernetes) -> None:
        if cluster.release == NEW:
            told("cccccccccccc")(cluster)

    cluster.on_pods = overtake
    assert run(cluster, "set", NEW) == NOT_SERVED
    assert (
        "somebody else has had deployment tritonrec/tritonrec serve cccccccccccc" in capsys.readouterr().err
    )
    assert cluster.release == "cccccccccccc"


def test_a_way_back_that_fails_too_is_told_as_such(cluster: Kubernetes, run: Run, capsys: Printed) -> None:
    cluster.behaviour[NEW] = "crash"
    cluster.forbid_patches_after = 1
    assert run(cluster, "set", NEW) == BROKEN
    assert f"and going back to {OLD}: changing deployment" in capsys.readouterr().err


def test_a_rollout_that_takes_too_long_is_taken_back(cluster: Kubernetes, run: Run, capsys: Printed) -> None:
    cluster.behaviour[NEW] = "unready"
    assert run(cluster, "set", NEW, "--wait", "1") == NOT_SERVED
    assert "is not whole after 1 s" in capsys.readouterr().err
    assert cluster.served == {OLD}


def test_a_rollout_that_was_interrupted_goes_on_and_still_knows_its_way_back(
    cluster: Kubernetes, run: Run
) -> None:
    cluster.change({"metadata": {"annotations": {"tritonrec/release-before": OLD}}})
    cluster.behaviour[NEW] = "crash"
    told(NEW)(cluster)
    assert run(cluster, "set", NEW) == NOT_SERVED
    assert cluster.served == {OLD}


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
