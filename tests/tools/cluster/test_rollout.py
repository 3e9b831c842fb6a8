"""Rollouts by the command line: a small Kubernetes that acts as a real one, and a real Triton behind it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from kubernetes_api import Kubernetes
from pod_life import deployment_of
from rollout_site import NEW, OLD, Printed, Run, Site, finish, told

from tools.releases.golden import GOLDEN
from tools.rollout import BROKEN, NOT_SERVED, OK

pytestmark = pytest.mark.server


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


def test_what_is_served_already_is_not_taken_back_by_asking_it(
    cluster: Kubernetes, site: Site, run: Run, capsys: Printed
) -> None:
    cluster.change({"metadata": {"annotations": {"tritonrec/release-before": NEW}}})
    site.serve(NEW)
    assert run(cluster, "set", OLD) == NOT_SERVED
    assert f"is {NEW}; expected {OLD}" in capsys.readouterr().err
    assert cluster.patches == []


def test_the_latest_release_can_be_set_by_that_word(cluster: Kubernetes, run: Run) -> None:
    assert run(cluster, "set", "latest") == OK
    assert cluster.served == {NEW}


def test_a_deployment_that_was_never_told_a_release_goes_back_to_what_it_serves(site: Site, run: Run) -> None:
    site.serve(OLD)
    with Kubernetes(deployment_of(None), {NEW: "crash"}, on_complete=site.serve) as cluster:
        assert run(cluster, "set", NEW) == NOT_SERVED
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


def test_an_api_that_is_gone_for_good_leaves_it_to_somebody(
    cluster: Kubernetes, run: Run, capsys: Printed
) -> None:
    cluster.before_patch = [lambda cluster: setattr(cluster, "refuse", 10**6)]
    assert run(cluster, "set", NEW, "--wait", "0.5") == BROKEN
    assert "reading deployment tritonrec/tritonrec: the connection was lost" in capsys.readouterr().err


def test_a_change_whose_answer_is_lost_is_not_made_again(cluster: Kubernetes, run: Run) -> None:
    cluster.lose_answers = 1
    assert run(cluster, "set", NEW) == OK
    assert len(cluster.patches) == 1


def test_a_change_that_somebody_else_makes_at_the_same_time_is_kept(cluster: Kubernetes, run: Run) -> None:
    def scale(cluster: Kubernetes) -> None:
        cluster.change({"spec": {"replicas": 3}})

    cluster.before_patch = [scale]
    assert run(cluster, "set", NEW) == OK
    assert cluster.deployment is not None
    assert cluster.deployment["spec"]["replicas"] == 3
    assert sum("PATCH" in request for request in cluster.requests) >= 2
    assert len(cluster.patches) == 1


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
