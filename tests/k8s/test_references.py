"""What no schema can check: whatever one object says of another is so."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator

import pytest
import yaml
from manifests import (
    K8S,
    ROOT,
    Json,
    containers,
    label,
    of_kind,
    pods,
    rendered,
    settings,
    the,
)
from variants import VARIANTS, Variant, words

from tools.config.build import BuildConfig
from tools.config.pod import PREFIX, PodSettings

LABELS = ("name", "instance", "component", "part-of", "managed-by", "version")
SUPPLIED = {"tritonrec-tls": {"tls.crt", "tls.key", "ca.crt"}, "tritonrec-s3": {"access-key", "secret-key"}}
"""Secrets that people bring; a component's comment says so."""
ELSEWHERE = {
    "external-redis": {"tritonrec-redis": {"password"}},
}
IN_SHELLS = re.compile(r"\$\(?([A-Z][A-Z0-9_]+)")

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=words)


def matches(selector: Json | None, labels: dict[str, str]) -> bool:
    """Whether a label selector selects what has `labels`; an empty one selects everything."""
    if selector is None:
        return False
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In"
        if labels.get(each["key"]) not in each["values"]:
            return False
    return True


def labels_of(pod: Json) -> dict[str, str]:
    found: dict[str, str] = pod["metadata"]["labels"]
    return found


def ports_of(pod: Json) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for each in containers(pod) for port in each.get("ports", [])}


def sources(each: Json) -> Iterator[tuple[str, str, str | None]]:
    """Every ConfigMap and Secret that a container reads as environment: kind, name, key."""
    for variable in each.get("env", []):
        for kind, field in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
            if field in variable.get("valueFrom", {}):
                found = variable["valueFrom"][field]
                yield kind, found["name"], found["key"]
    for source in each.get("envFrom", []):
        yield "ConfigMap", source["configMapRef"]["name"], None


@every_variant
def test_every_object_has_all_labels_and_a_name_that_fits_everywhere(variant: Variant) -> None:
    objects = rendered(*variant)
    for each in objects:
        found = each["metadata"].get("labels", {})
        wanted = {f"app.kubernetes.io/{name}" for name in LABELS}
        assert wanted <= found.keys(), label(each)
        # A CronJob's jobs append 11 characters, and pods append more.
        longest = 52 if each["kind"] == "CronJob" else 63
        assert re.fullmatch(rf"[a-z0-9]([a-z0-9-]{{0,{longest - 2}}}[a-z0-9])?", each["metadata"]["name"])
        assert "generateName" not in each["metadata"]
        for key, value in found.items():
            assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", value), f"{key}: {value}"
        if each["kind"] != "Namespace":
            assert each["metadata"]["namespace"] == "tritonrec", label(each)
    for name, pod in pods(objects):
        assert {f"app.kubernetes.io/{each}" for each in LABELS} <= labels_of(pod).keys(), name
    assert Counter(label(each) for each in objects).most_common(1)[0][1] == 1


@every_variant
def test_selectors_select_what_they_are_meant_for(variant: Variant) -> None:
    objects = rendered(*variant)
    templates = dict(pods(objects))
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] in ("Deployment", "StatefulSet"):
            assert matches(spec["selector"], labels_of(templates[label(each)]))
            constraints = spec["template"]["spec"].get("topologySpreadConstraints", [])
            assert all(matches(rule["labelSelector"], labels_of(spec["template"])) for rule in constraints)
        elif each["kind"] == "Service":
            selected = [
                pod
                for pod in templates.values()
                if matches({"matchLabels": spec["selector"]}, labels_of(pod))
            ]
            assert len(selected) == 1, label(each)
            for port in spec["ports"]:
                assert ports_of(selected[0])[port["targetPort"]] == port["port"], label(each)
        elif each["kind"] in ("PodDisruptionBudget", "PodMonitor"):
            selected = [name for name, pod in templates.items() if matches(spec["selector"], labels_of(pod))]
            assert selected == ["Deployment/tritonrec"]
            for endpoint in spec.get("podMetricsEndpoints", []):
                assert endpoint["port"] in ports_of(templates[selected[0]])
        elif each["kind"] == "NetworkPolicy":
            assert any(matches(spec["podSelector"], labels_of(pod)) for pod in templates.values()), label(
                each
            )


@every_variant
def test_whoever_is_referred_to_exists(variant: Variant) -> None:
    objects = rendered(*variant)
    names = {label(each) for each in objects}
    used: set[str] = set()
    for name, pod in pods(objects):
        used.add(f"ServiceAccount/{pod['spec']['serviceAccountName']}")
        for volume in pod["spec"].get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                used.add(f"PersistentVolumeClaim/{claim['claimName']}")
            if (config := volume.get("configMap")) and not config.get("optional"):
                used.add(f"ConfigMap/{config['name']}")
        mounts = Counter(mount["name"] for each in containers(pod) for mount in each.get("volumeMounts", []))
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        owner = next(each for each in objects if label(each) == name)
        volumes |= {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
        assert mounts.keys() == volumes, name
        for each in containers(pod):
            paths = [mount["mountPath"] for mount in each.get("volumeMounts", [])]
            assert len(paths) == len(set(paths)), name
            used |= {f"{kind}/{found}" for kind, found, _ in sources(each) if kind == "ConfigMap"}
    for each in of_kind(objects, "RoleBinding"):
        used.add(f"{each['roleRef']['kind']}/{each['roleRef']['name']}")
        used |= {f"ServiceAccount/{subject['name']}" for subject in each["subjects"]}
        assert {subject["namespace"] for subject in each["subjects"]} == {"tritonrec"}
    for each in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        target = each["spec"]["scaleTargetRef"]
        used.add(f"{target['kind']}/{target['name']}")
    for each in of_kind(objects, "StatefulSet"):
        used.add(f"Service/{each['spec']['serviceName']}")
    for each in of_kind(objects, "GRPCRoute"):
        for rule in each["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                used.add(f"Service/{backend['name']}")
                service = the(objects, "Service", backend["name"])
                assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}
    assert used <= names
    # What nobody uses is left over; the dashboard is found by its label.
    kinds = ("ServiceAccount", "Role", "ConfigMap", "PersistentVolumeClaim")
    unused = {label(each) for each in of_kind(objects, *kinds)} - used
    assert not {each for each in unused if not each.startswith("ConfigMap/tritonrec-dashboard")}
    assert len(of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")) <= 1


@every_variant
def test_every_secret_is_made_or_supplied_with_the_keys_that_are_read(variant: Variant) -> None:
    objects = rendered(*variant)
    job = the(objects, "Job", "tritonrec-secrets")["spec"]["template"]["spec"]["containers"][0]
    made = dict(
        arg.removeprefix("--secret=").split("/") for arg in job["args"] if arg.startswith("--secret=")
    )
    known = {name: {key} for name, key in made.items()} | SUPPLIED
    for component in variant[1]:
        known |= ELSEWHERE.get(component, {})
    read: dict[str, set[str]] = {}
    for _, pod in pods(objects):
        for each in containers(pod):
            for kind, name, key in sources(each):
                if kind == "Secret":
                    read.setdefault(name, set()).add(str(key))
        for volume in pod["spec"].get("volumes", []):
            if "secret" in volume:
                items = {item["key"] for item in volume["secret"].get("items", [])}
                read.setdefault(volume["secret"]["secretName"], set()).update(items)
    assert all(keys <= known[name] for name, keys in read.items())
    assert made.keys() <= read.keys()


@every_variant
def test_settings_are_known_valid_and_used(variant: Variant) -> None:
    objects = rendered(*variant)
    found = settings(objects)
    secret = {f"{PREFIX}CONTROL_KEY": "0" * 32}
    PodSettings.from_environment({**found, **secret})
    known = {PREFIX + name.upper() for name in PodSettings.model_fields}
    for _, pod in pods(objects):
        for each in containers(pod):
            known |= set(IN_SHELLS.findall(str([each.get("args"), each.get("env"), each.get("lifecycle")])))
    assert found.keys() <= known


@every_variant
def test_variables_in_arguments_are_defined_before_they_are_used(variant: Variant) -> None:
    objects = rendered(*variant)
    for name, pod in pods(objects):
        for each in containers(pod):
            defined = set(settings(objects)) if each.get("envFrom") else set()
            for variable in each.get("env", []):
                assert set(re.findall(r"\$\(([A-Z0-9_]+)\)", variable.get("value", ""))) <= defined, name
                defined.add(variable["name"])
            text = str([each.get("command"), each.get("args")])
            assert set(re.findall(r"\$\(([A-Z0-9_]+)\)", text)) <= defined, name


@every_variant
def test_images_are_pinned_and_programs_are_there(variant: Variant) -> None:
    for name, pod in pods(rendered(*variant)):
        for each in containers(pod):
            assert re.fullmatch(r"[a-z0-9.-]+/[a-z0-9/_-]+(:[\w.-]+|@sha256:[0-9a-f]{64})", each["image"]), (
                name
            )
            assert not each["image"].endswith(":latest")
            for text in (*each.get("command", []), *each.get("args", [])):
                if text.startswith("/opt/tritonrec/"):
                    assert (ROOT / text.removeprefix("/opt/tritonrec/")).is_file(), text


@every_variant
def test_applying_again_and_upgrading_changes_nothing_that_may_not_be_changed(variant: Variant) -> None:
    objects = rendered(*variant)
    for each in of_kind(objects, "StatefulSet"):
        for claim in each["spec"]["volumeClaimTemplates"]:
            assert "app.kubernetes.io/version" not in claim["metadata"].get("labels", {})
    for each in of_kind(objects, "Deployment", "StatefulSet"):
        assert "app.kubernetes.io/version" not in each["spec"]["selector"]["matchLabels"]
    for each in of_kind(objects, "Job"):
        assert each["spec"]["ttlSecondsAfterFinished"] <= 600, (
            "a Job that stays cannot be applied with another image"
        )
    deployment = the(objects, "Deployment", "tritonrec")
    # The autoscaler's and the rollout's; whoever applies must not reset them.
    assert ("replicas" in deployment["spec"]) == (
        not of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    )
    assert "tritonrec/release" not in deployment["spec"]["template"]["metadata"]["annotations"]


@every_variant
def test_the_release_in_force_reaches_every_container_that_serves_it(variant: Variant) -> None:
    pod = the(rendered(*variant), "Deployment", "tritonrec")["spec"]["template"]
    for each in containers(pod):
        path = {"fieldRef": {"fieldPath": "metadata.annotations['tritonrec/release']"}}
        if "--release-file=/run/tritonrec/release" in each["args"] and each["name"] == "plans":
            continue  # what `verify` noted
        told = [v for v in each["env"] if v["name"] == "TRITONREC_RELEASE"]
        found = [{"fieldRef": {"fieldPath": v["valueFrom"]["fieldRef"]["fieldPath"]}} for v in told]
        assert found == [path], each["name"]


def test_the_configuration_of_builds_is_that_of_the_repository_in_other_places() -> None:
    here = tomllib.loads((K8S / "base" / "build.toml").read_text())
    there = tomllib.loads((ROOT / "tools" / "config" / "movielens-100k.toml").read_text())
    assert BuildConfig.model_validate(here).output.as_posix() == "/releases"
    for config in (here, there):
        del config["output"], config["store"]
        for part in config["data"].values():
            part["path"] = part["path"].rpartition("/")[2]
    assert here == there


def test_the_servers_of_a_deployment_take_the_oldest_release_unless_they_are_told() -> None:
    verify = the(rendered("cpu"), "Deployment", "tritonrec")["spec"]["template"]["spec"]["initContainers"][-1]

    assert verify["name"] == "verify"
    assert "--release=$(TRITONREC_RELEASE)" in verify["args"]


def test_a_components_setting_is_changed_by_a_patch_as_the_top_kustomization_says() -> None:
    example = (K8S / "kustomization.yaml").read_text()
    lines = [
        line.removeprefix("#").removeprefix("   ") for line in example.splitlines() if line.startswith("#   ")
    ]
    own = yaml.safe_load("\n".join(lines))

    changed = rendered("cpu", ("external-redis",), json.dumps(own))

    assert settings(changed)["TRITONREC_STORE"] == "rediss://redis.mine:6379/0"
    assert settings(rendered("cpu", ("external-redis",)))["TRITONREC_STORE"].startswith(
        "rediss://redis.example"
    )
