"""The Dockerfile, beside what the manifests expect of its images."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from manifests import OVERLAYS, ROOT, containers, pods, rendered
from pod_process import IMAGE_ENVIRONMENT

IMAGES = ROOT / "k8s" / "images"
DOCKERFILE = (IMAGES / "Dockerfile").read_text()
RUNNING = ("cpu", "gpu", "builder")
"""Targets that pods run; the others only bring libraries."""


def stages() -> dict[str, str]:
    """The text of each stage by its name."""
    parts = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    return {re.match(r"\S+ AS (\S+)", part)[1]: part for part in parts}  # type: ignore[index]


def whole(name: str) -> str:
    """The text of a stage and of those that it begins with."""
    text = stages()[name]
    base = text.split()[0]
    return (whole(base) if base in stages() else "") + text


def test_hadolint_has_no_complaint() -> None:
    found = shutil.which("hadolint", path=f"{Path(sys.executable).parent}")
    assert found is not None, "hadolint is missing; the extra dev has it"
    done = subprocess.run([found, str(IMAGES / "Dockerfile")], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_every_image_of_ours_is_a_target() -> None:
    ours = {
        each["image"].rpartition("-")[2]
        for overlay in OVERLAYS
        for _, pod in pods(rendered(overlay))
        for each in containers(pod)
        if "tritonrec/tritonrec" in each["image"]
    }

    assert ours == set(RUNNING)
    assert set(stages()) == {*RUNNING, "cpu-libraries", "builder-libraries"}


@pytest.mark.parametrize("target", RUNNING)
def test_an_image_runs_as_the_user_of_the_pods_with_the_code_where_they_look(target: str) -> None:
    text = whole(target)
    user = re.findall(r"^USER (\d+):(\d+)$", text, re.MULTILINE)[-1]
    spec = dict(pods(rendered("gpu")))["Deployment/tritonrec"]["spec"]["securityContext"]

    assert user == (str(spec["runAsUser"]), str(spec["runAsGroup"]))
    for folder in ("clients", "python_backend", "model_repository", "tools"):
        assert f"COPY {folder} {folder}" in text
    assert "WORKDIR /opt/tritonrec" in text
    for name in IMAGE_ENVIRONMENT:
        assert re.search(rf"\b{name}=", text), name


def test_base_images_are_pinned_and_nvidias_is_recent() -> None:
    bases = [text.split()[0] for text in stages().values()]
    tags = [base.partition(":")[2] for base in bases if base not in stages()]
    release = re.search(r"tritonserver:(\d+)\.(\d+)-py3", DOCKERFILE)

    assert all(tags)
    assert "latest" not in tags
    assert release is not None
    assert (int(release[1]), int(release[2])) >= (26, 3)


def test_only_what_is_copied_is_sent_to_the_builder() -> None:
    lines = (IMAGES / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        word.partition("/")[0]
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    }

    assert allowed == copied
    assert all((ROOT / each).exists() for each in copied)
