"""Pods are `restricted`, hold no token that they do not need, and talk to nobody without need."""

from __future__ import annotations

import pytest
from manifests import Json, containers, of_kind, pods, rendered, settings, the
from test_references import labels_of, matches, ports_of
from variants import BARE, VARIANTS, Variant, words

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=words)

TOKENS = {"Job/tritonrec-secrets", "CronJob/tritonrec-rollout"}
VOLUMES = {"configMap", "emptyDir", "image", "persistentVolumeClaim", "secret"}


@every_variant
def test_every_container_is_restricted(variant: Variant) -> None:
    for name, pod in pods(rendered(*variant)):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert all(volume.keys() - {"name"} <= VOLUMES for volume in spec.get("volumes", [])), name
        for each in containers(pod):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert not any("hostPort" in port for port in each.get("ports", [])), name


@every_variant
def test_secrets_in_files_are_for_the_pods_own_group_alone(variant: Variant) -> None:
    objects = rendered(*variant)
    files = {
        name: volume["secret"]
        for name, pod in pods(objects)
        for volume in pod["spec"].get("volumes", [])
        if "secret" in volume
    }
    assert all(secret["defaultMode"] == 0o440 for secret in files.values())
    # The server's key goes to others only where clients must show a certificate.
    whole = {name for name, secret in files.items() if "items" not in secret}
    clients = {"CronJob/tritonrec-refresh", "CronJob/tritonrec-rollout"} & dict(pods(objects)).keys()
    assert whole - {"Deployment/tritonrec"} == (clients if "mutual-tls" in variant[1] else set())


@every_variant
def test_every_container_says_what_it_needs_and_has_an_end(variant: Variant) -> None:
    for name, pod in pods(rendered(*variant)):
        for each in containers(pod):
            assert {"cpu", "memory"} <= each["resources"]["requests"].keys(), name
            assert "memory" in each["resources"]["limits"], name
        for volume in pod["spec"].get("volumes", []):
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"], name


def test_the_namespace_refuses_what_is_not_restricted() -> None:
    labels = the(rendered("gpu"), "Namespace", "tritonrec")["metadata"]["labels"]

    assert all(
        labels[f"pod-security.kubernetes.io/{mode}"] == "restricted" for mode in ("enforce", "audit", "warn")
    )


@every_variant
def test_only_who_asks_the_api_has_a_token(variant: Variant) -> None:
    objects = rendered(*variant)
    there = {name for name, _ in pods(objects)}
    assert {
        name for name, pod in pods(objects) if pod["spec"]["automountServiceAccountToken"]
    } == TOKENS & there
    for each in of_kind(objects, "ServiceAccount"):
        assert each["automountServiceAccountToken"] is False
    assert all(pod["spec"]["enableServiceLinks"] is False for _, pod in pods(objects))


def test_roles_allow_what_is_needed_and_no_more() -> None:
    objects = rendered("gpu")
    rules = {each["metadata"]["name"]: each["rules"] for each in of_kind(objects, "Role")}

    assert rules == {
        "tritonrec-secrets": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}],
        "tritonrec-rollout": [
            {
                "apiGroups": ["apps"],
                "resources": ["deployments"],
                "resourceNames": ["tritonrec"],
                "verbs": ["get", "list", "watch", "patch"],
            },
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        ],
    }
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")


def allowed(objects: tuple[Json, ...], here: Json, there: Json, port: int) -> bool:
    """Whether policies let a pod of the template `here` connect to `port` of one of `there`, at both ends."""

    def admits(direction: str, pod: Json, other: Json) -> bool:
        field = "from" if direction == "ingress" else "to"
        for policy in of_kind(objects, "NetworkPolicy"):
            spec = policy["spec"]
            if not matches(spec["podSelector"], labels_of(pod)):
                continue
            for rule in spec.get(direction, []):
                for peer in rule.get(field, []):
                    # A peer in another namespace is somebody else, unless every namespace is meant.
                    if peer.get("namespaceSelector"):
                        continue
                    if matches(peer.get("podSelector"), labels_of(other)) and any(
                        each["port"] in (port, *(n for n, p in ports_of(there).items() if p == port))
                        for each in rule["ports"]
                    ):
                        return True
        return False

    return admits("egress", here, there) and admits("ingress", there, here)


@pytest.mark.parametrize("variant", BARE, ids=words)
def test_exactly_the_needed_flows_are_open(variant: Variant) -> None:
    objects = rendered(*variant)
    templates = dict(pods(objects))
    flows = {
        (here, there, port)
        for here in templates
        for there in templates
        for port in ports_of(templates[there]).values()
        if allowed(objects, templates[here], templates[there], port)
    }
    server, redis = "Deployment/tritonrec", "StatefulSet/tritonrec-redis"
    needed = {
        ("CronJob/tritonrec-rollout", server, 8001),
        ("CronJob/tritonrec-refresh", server, 8001),
        (server, redis, 6379),
        ("CronJob/tritonrec-refresh", redis, 6379),
        ("Job/tritonrec-first-release", redis, 6379),
    }
    assert flows == {flow for flow in needed if flow[1] in templates}


@every_variant
def test_http_whose_connections_cannot_be_drained_is_offered_by_nobody_who_was_not_asked_for_it(
    variant: Variant,
) -> None:
    objects = rendered(*variant)
    asked_for = "http" in variant[1]
    offered = {port["name"] for each in of_kind(objects, "Service") for port in each["spec"]["ports"]}
    opened = {
        port["port"]
        for each in of_kind(objects, "NetworkPolicy")
        for rule in each["spec"].get("ingress", [])
        for port in rule.get("ports", [])
    }

    assert ("http" in offered) == ("http" in opened) == asked_for
    assert (settings(objects).get("TRITONREC_HTTP_HOST") == "0.0.0.0") == asked_for


@every_variant
def test_whatever_no_policy_names_is_closed(variant: Variant) -> None:
    default = the(rendered(*variant), "NetworkPolicy", "default-deny")["spec"]

    assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@every_variant
def test_names_can_be_looked_up_by_whoever_may_talk_to_somebody(variant: Variant) -> None:
    objects = rendered(*variant)
    for name, pod in pods(objects):
        rules = [
            rule
            for policy in of_kind(objects, "NetworkPolicy")
            if matches(policy["spec"]["podSelector"], labels_of(pod))
            for rule in policy["spec"].get("egress", [])
        ]
        looks_up = any({"protocol": "UDP", "port": 53} in rule.get("ports", []) for rule in rules)
        assert looks_up == bool(rules), name
