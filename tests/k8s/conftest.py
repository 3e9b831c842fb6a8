"""Pods of the cpu overlay on this machine, with a release that needs no model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from manifests import ROOT, rendered, the
from pod_process import Pod

from tools.releases.manifest import folder_hashes
from tools.serving.server import Ports

sys.path.append(str(ROOT / "tests" / "tools"))  # the toy release is theirs
from toy_release import make_release

SECRETS = {
    "tritonrec-control": {"key": "5f1c0ffee5f1c0ffee5f1c0ffee5f1c0"},
    "tritonrec-redis": {"password": "4b1d4b1d4b1d4b1d4b1d4b1d"},
}


def toy_release(build: Path, name: str) -> Path:
    """A finished release with the hashes of its files."""
    path = make_release(build, name)
    manifest = path / "manifest.json"
    content = json.loads(manifest.read_text())
    content |= {"files": folder_hashes(path), "created": "2026-01-02T03:04:05+00:00"}
    manifest.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="session")
def new_pod(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pod]:
    """Makes pods of the server, in folders and on ports of their own."""

    def make(variant: tuple[str, tuple[str, ...]] = ("cpu", ()), **settings: str) -> Pod:
        ports = Ports.free()
        extra: Mapping[str, str] = {
            "TRITONREC_GRPC_PORT": str(ports.grpc),
            "TRITONREC_HTTP_PORT": str(ports.http),
            "TRITONREC_METRICS_PORT": str(ports.metrics),
            **settings,
        }
        objects = rendered(*variant)
        template = the(objects, "Deployment", "tritonrec")["spec"]["template"]
        return Pod(objects, template, tmp_path_factory.mktemp("pod"), SECRETS, extra=extra)

    return make
