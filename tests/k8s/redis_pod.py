"""The pod of the StatefulSet on a port of this machine, which is all that is changed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from manifests import Json, the
from pod_process import Pod


def redis_pod(
    objects: tuple[Json, ...], folder: Path, secrets: Mapping[str, Mapping[str, str]]
) -> tuple[Pod, str]:
    """A pod that runs nothing yet, and the address that its Redis will have."""
    programs = {name: shutil.which(name) for name in ("redis-server", "redis-cli")}
    if missing := [name for name, path in programs.items() if path is None]:
        pytest.fail(f"{', '.join(missing)} not on the PATH; apt-get install redis-server", pytrace=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    template = the(objects, "StatefulSet", "tritonrec-redis")["spec"]["template"]
    pod = Pod(objects, template, folder, secrets)
    with (folder / "config" / "redis.conf").open("a") as config:
        config.write(f"port {port}\nbind 127.0.0.1\n")
    # redis-cli has no variable for its port.
    (folder / "bin").mkdir()
    client = folder / "bin" / "redis-cli"
    client.write_text(f'#!/bin/sh\nexec {programs["redis-cli"]} -p {port} "$@"\n')
    client.chmod(0o755)
    pod.extra = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    return pod, f"127.0.0.1:{port}"


def kill(process: subprocess.Popen[bytes]) -> None:
    """As when its machine dies."""
    process.kill()
    process.wait()
