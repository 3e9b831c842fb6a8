"""The manifests as kubectl renders them, and ways to find things in them."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("gpu", "cpu", "edge")
COMPONENTS = tuple(sorted(path.name for path in (K8S / "components").iterdir()))
OLDEST_KUBECTL = (1, 27)

Json = dict[str, Any]


@functools.cache
def kubectl() -> str:
    """The program; the test is skipped where it is missing or older than kustomize needs."""
    wanted = f"kubectl {'.'.join(map(str, OLDEST_KUBECTL))} or later"
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip(f"{wanted} is not on the PATH")
    words = subprocess.run([found, "version", "--client"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"v(\d+)\.(\d+)", words)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_KUBECTL:
        pytest.skip(f"{wanted} is not on the PATH: {words.splitlines()[0] if words else 'it says nothing'}")
    return found


@functools.cache
def rendered(overlay: str, components: tuple[str, ...] = (), more: str = "{}") -> tuple[Json, ...]:
    """Every object of an overlay with `components` on top, as somebody's own kustomization has them.

    `more` is what else that kustomization says, as JSON.
    """
    if not components and more == "{}":
        return _build(K8S / "overlays" / overlay if overlay else K8S)
    with tempfile.TemporaryDirectory() as temporary:
        # Not a symbolic link's path: kustomize resolves relative ones from where a folder really is.
        folder = Path(temporary).resolve()
        to_k8s = os.path.relpath(K8S, folder)
        own = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "tritonrec",
            "resources": [f"{to_k8s}/overlays/{overlay}"],
            "components": [f"{to_k8s}/components/{name}" for name in components],
            **json.loads(more),
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
        return _build(folder)


def _build(folder: Path) -> tuple[Json, ...]:
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def the(objects: tuple[Json, ...], kind: str, name: str) -> Json:
    """The one object of a kind and a name; a generated name's hash may be left out."""
    found = [
        each
        for each in objects
        if each["kind"] == kind and re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", each["metadata"]["name"])
    ]
    assert len(found) == 1, f"{kind} {name}: {[each['metadata']['name'] for each in found]}"
    return found[0]


def of_kind(objects: tuple[Json, ...], *kinds: str) -> list[Json]:
    return [each for each in objects if each["kind"] in kinds]


def label(each: Json) -> str:
    return f"{each['kind']}/{each['metadata']['name']}"


def pods(objects: tuple[Json, ...]) -> Iterator[tuple[str, Json]]:
    """The template of every pod that there can be, with the name of what makes it."""
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield label(each), each["spec"]["template"]
        elif each["kind"] == "CronJob":
            yield label(each), each["spec"]["jobTemplate"]["spec"]["template"]


def containers(pod: Json) -> list[Json]:
    """All containers of a template, those that come first included."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def server(objects: tuple[Json, ...]) -> Json:
    """The container that serves."""
    return next(
        each
        for each in the(objects, "Deployment", "tritonrec")["spec"]["template"]["spec"]["containers"]
        if each["name"] == "triton"
    )


def settings(objects: tuple[Json, ...]) -> dict[str, str]:
    content: dict[str, str] = the(objects, "ConfigMap", "tritonrec-settings")["data"]
    return content


UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(text: str | int | float) -> float:
    """A quantity as the API reads it: bytes, or processors."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", str(text))
    assert match, f"{text!r} is no quantity"
    assert match[2] in UNITS, f"{text!r} is no quantity"
    return float(match[1]) * UNITS[match[2]]
