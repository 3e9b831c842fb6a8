"""Every overlay, with every component, against the API's own schemas of several Kubernetes versions."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import kubernetes_validate
import kubernetes_validate.utils
import pytest
import yaml
from manifests import COMPONENTS, K8S, Json, label, rendered, server, the
from variants import BARE, COMPONENTS_ON_TOP, VARIANTS, Variant, words

VERSIONS = ("1.31", "1.33", "1.35", "1.37")
IMAGE_VOLUMES = VERSIONS[1:]
"""Versions whose API has volumes that are images."""

CRDS = {
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "GRPCRoute": "gateway.networking.k8s.io/v1",
}
"""Kinds that a cluster only knows once somebody has brought them; no schema of the API's knows them."""


# It reads its schemas anew for each object, 10 ms each.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)


def validate(each: Json, version: str) -> None:
    _validate(json.dumps(each), version)


@functools.cache  # most objects are the same in most variants
def _validate(text: str, version: str) -> None:
    kubernetes_validate.validate(json.loads(text), version, strict=True)


@pytest.mark.parametrize("variant", VARIANTS, ids=words)
def test_every_object_is_valid_with_no_unknown_field(variant: Variant) -> None:
    objects = rendered(*variant)
    versions = IMAGE_VOLUMES if "oci-releases" in variant[1] else VERSIONS
    for each in objects:
        if each["kind"] in CRDS:
            assert each["apiVersion"] == CRDS[each["kind"]]
            continue
        for version in versions:
            try:
                validate(each, version)
            except Exception as error:
                raise AssertionError(f"{label(each)} in {version}: {error}") from error


@pytest.mark.parametrize("variant", BARE, ids=words)
def test_a_cluster_without_crds_knows_every_kind(variant: Variant) -> None:
    assert not {each["kind"] for each in rendered(*variant)} & CRDS.keys()


def test_the_top_folder_applies_the_gpu_overlay() -> None:
    assert rendered("") == rendered("gpu")


def test_every_component_is_rendered_by_some_variant() -> None:
    assert set(COMPONENTS) == {"redis", *COMPONENTS_ON_TOP}


def test_a_field_that_nobody_knows_is_refused() -> None:
    deployment = copy.deepcopy(the(rendered("cpu"), "Deployment", "tritonrec"))
    server((deployment,))["readinessProb"] = {}

    with pytest.raises(kubernetes_validate.ValidationError, match="readinessProb"):
        validate(deployment, VERSIONS[0])


@pytest.mark.parametrize(
    "path",
    sorted(
        path for path in K8S.rglob("*.yaml") if path.name not in ("kustomization.yaml", "adapter-rules.yaml")
    ),
    ids=lambda path: str(path.relative_to(K8S)),
)
def test_a_file_holds_one_object_and_is_called_after_its_kind(path: Path) -> None:
    content = list(yaml.safe_load_all(path.read_text()))

    assert len(content) == 1
    assert path.stem.endswith((f"-{content[0]['kind'].lower()}", "-patch"))
