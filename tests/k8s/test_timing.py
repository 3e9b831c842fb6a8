"""Probes, and the end of a pod: numbers in several places that must fit together."""

from __future__ import annotations

import subprocess

import pytest
from manifests import Json, rendered, server, settings, the
from variants import BARE, VARIANTS, Variant, words

from tools import serve_pod
from tools.config.pod import PodSettings
from tools.serving.pod import Drain, arguments_of
from tools.serving.server import STOPPING

NAMES = 30
"""Seconds for which a name server may lead to a pod that is on its way out: what kubeadm's CoreDNS says."""
HEARING = 5
"""Seconds until every node has heard that a pod is on its way out."""

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=words)


def option(probe: Json, name: str) -> float:
    command = probe["exec"]["command"]
    return float(next(word for word in command if word.startswith(f"--{name}=")).partition("=")[2])


@every_variant
def test_a_probe_ends_before_it_is_ended(variant: Variant) -> None:
    container = server(rendered(*variant))
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[name]
        # Python and gRPC take a third of a second to start, several when the processors are busy.
        assert option(probe, "timeout") + 3 <= probe["timeoutSeconds"], name


@every_variant
def test_a_pod_gets_the_time_that_it_needs_to_start(variant: Variant) -> None:
    objects = rendered(*variant)
    startup = server(objects)["startupProbe"]
    granted = startup["periodSeconds"] * startup["failureThreshold"]

    assert granted >= serve_pod.PATIENCE
    assert the(objects, "Deployment", "tritonrec")["spec"]["progressDeadlineSeconds"] > granted


@every_variant
def test_a_pod_is_taken_out_of_service_long_before_it_is_killed(variant: Variant) -> None:
    container = server(rendered(*variant))
    ready, live = container["readinessProbe"], container["livenessProbe"]

    assert ready["periodSeconds"] * ready["failureThreshold"] <= 15
    assert live["periodSeconds"] * live["failureThreshold"] >= 60
    assert option(live, "timeout") > option(ready, "timeout")
    assert "--ready" in ready["exec"]["command"]
    assert "--live" in live["exec"]["command"]


@every_variant
def test_everything_that_happens_while_a_pod_ends_follows_from_one_number(variant: Variant) -> None:
    objects = rendered(*variant)
    pod = the(objects, "Deployment", "tritonrec")["spec"]["template"]["spec"]
    grace = int(settings(objects)["TRITONREC_GRACE_SECONDS"])
    drain = Drain(grace)

    assert pod["terminationGracePeriodSeconds"] == grace
    # Whoever heard last, or was led here by an old name, connected at the last moment and came of age.
    assert drain.leave >= max(HEARING, NAMES) + HEARING + 1.1 * drain.age
    # The rest: Triton waits for requests in flight, then its stages end.
    assert drain.leave + drain.exit_timeout + 2 * STOPPING <= grace


@pytest.mark.parametrize("variant", BARE, ids=words)
def test_the_pause_before_a_pod_ends_is_what_it_is_meant_to_be(variant: Variant) -> None:
    objects = rendered(*variant)
    command = server(objects)["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:2] == ["sh", "-c"]
    said = subprocess.run(
        ["sh", "-c", f"sleep() {{ echo $1; }}; {command[2]}"],
        env=settings(objects),
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(said.stdout) == Drain(int(settings(objects)["TRITONREC_GRACE_SECONDS"])).leave


@pytest.mark.parametrize("variant", BARE, ids=words)
def test_triton_is_told_the_same_numbers(variant: Variant) -> None:
    found = settings(rendered(*variant)) | {"TRITONREC_CONTROL_KEY": "0" * 32}
    drain = Drain(int(found["TRITONREC_GRACE_SECONDS"]))

    told = arguments_of(PodSettings.from_environment(found))

    assert f"--grpc-max-connection-age={1000 * drain.age:.0f}" in told
    assert f"--grpc-max-connection-age-grace={1000 * drain.exit_timeout}" in told


@pytest.mark.parametrize("grace", [8, 12, 60, 120, 600])
def test_the_shares_of_any_number_fit_into_it(grace: int) -> None:
    drain = Drain(grace)

    assert drain.leave > 1.1 * drain.age
    assert drain.leave + drain.exit_timeout < grace


@every_variant
def test_no_pod_goes_before_another_is_ready(variant: Variant) -> None:
    spec = the(rendered(*variant), "Deployment", "tritonrec")["spec"]

    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
