"""Pods of the cpu overlay on this machine, with a release that needs no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from manifests import rendered, the
from pod_process import Pod
from toy_pod import SECRETS

from tools.serving.server import Ports


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
