"""The containers of a rendered pod as plain processes: their own commands, environment, probes and hooks.

Paths of volumes and of the image are mapped into a folder of the test; nothing else is changed. Whoever ends
by itself must have stayed below its memory limit.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from manifests import ROOT, Json, quantity, the

from tools.memory import descendants, proportional_bytes

IMAGE_ENVIRONMENT = {"PYTHONPATH": f"{ROOT}:{ROOT / 'clients'}", "PYTHONUNBUFFERED": "1"}
"""What the Dockerfile sets."""


@dataclass
class Pod:
    """A pod of a template of `objects`, in `folder`, with the given `secrets`.

    `annotations` are those that somebody put on the template; `extra` is environment that only this machine
    needs, such as free ports. `addresses` maps the cluster's names to addresses here.
    """

    objects: tuple[Json, ...]
    template: Json
    folder: Path
    secrets: Mapping[str, Mapping[str, str]]
    annotations: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._paths = {"/opt/tritonrec": str(ROOT)}
        for volume in self.template["spec"].get("volumes", []):
            place = self.folder / volume["name"]
            place.mkdir(exist_ok=True)
            if "configMap" in volume and not self._left_out(volume):
                for name, text in the(self.objects, "ConfigMap", volume["configMap"]["name"])["data"].items():
                    (place / name).write_text(self.mapped(text))
        for each in self.containers.values():
            for mount in each.get("volumeMounts", []):
                if mount["mountPath"] not in ("/tmp", "/dev/shm"):
                    place = self.folder / mount["name"]
                    place.mkdir(exist_ok=True)
                    self._paths[mount["mountPath"]] = str(place)
        # Once more: what a configuration names lies in volumes.
        for volume in self.template["spec"].get("volumes", []):
            for path in (self.folder / volume["name"]).glob("*") if "configMap" in volume else ():
                path.write_text(self.mapped(path.read_text()))

    def _left_out(self, volume: Json) -> bool:
        """Whether a volume is of a ConfigMap that need not be there, and is not."""
        config = volume["configMap"]
        there = {each["metadata"]["name"] for each in self.objects if each["kind"] == "ConfigMap"}
        return bool(config.get("optional")) and config["name"] not in there

    @property
    def containers(self) -> dict[str, Json]:
        spec = self.template["spec"]
        return {each["name"]: each for each in (*spec.get("initContainers", []), *spec["containers"])}

    def mapped(self, text: str) -> str:
        """`text` with paths and addresses of the cluster as those of this machine."""
        for path in sorted(self._paths, key=len, reverse=True):
            whole = rf"(?:(?<=://)|(?<![\w/.-])){re.escape(path)}(?=[/\s'\"]|$)"
            text = re.sub(whole, self._paths[path], text)
        for name, address in self.addresses.items():
            text = text.replace(name, address)
        return text

    def environment(self, container: str) -> dict[str, str]:
        """All that the container's processes get."""
        each = self.containers[container]
        found: dict[str, str] = {}
        for source in each.get("envFrom", []):
            found |= the(self.objects, "ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in each.get("env", []):
            found[variable["name"]] = self._value(variable, found)
        mapped = {name: self.mapped(value) for name, value in found.items()}
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**IMAGE_ENVIRONMENT, "PATH": programs, "OMP_NUM_THREADS": "1", **mapped, **self.extra}

    def _value(self, variable: Json, defined: Mapping[str, str]) -> str:
        if "valueFrom" not in variable:
            return self._expanded(str(variable.get("value", "")), defined)
        source = variable["valueFrom"]
        if "secretKeyRef" in source:
            return self.secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
        if source["fieldRef"]["fieldPath"] == "metadata.namespace":
            return str(next(each["metadata"]["name"] for each in self.objects if each["kind"] == "Namespace"))
        name = re.fullmatch(r"metadata\.annotations\['(.+)'\]", source["fieldRef"]["fieldPath"])
        assert name is not None
        return self.annotations.get(name[1], "")

    @staticmethod
    def _expanded(text: str, defined: Mapping[str, str]) -> str:
        """As the kubelet does it: ``$(NAME)`` where there is such a variable, else as it stands."""
        return re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda match: defined.get(match[1], match[0]), text)

    def command(self, container: str) -> list[str]:
        """Its command and arguments."""
        each = self.containers[container]
        defined = self.environment(container)
        return [
            self.mapped(self._expanded(word, defined)) for word in (*each["command"], *each.get("args", []))
        ]

    def run(self, container: str, timeout: float = 60.0) -> str:
        """Run a container that ends by itself, one of a job or one that comes first; what it printed."""
        with self.running(container) as process:
            return self.finish(container, process, timeout)

    def finish(self, container: str, process: subprocess.Popen[bytes], timeout: float = 60.0) -> str:
        """Wait until a container has ended well and within its memory; what it printed."""
        end = time.monotonic() + timeout
        most = 0
        while process.poll() is None and time.monotonic() < end:
            most = max(most, sum(proportional_bytes(pid) for pid in descendants(process.pid)))
            time.sleep(0.3)
        printed = self.log(container)
        assert process.poll() == 0, printed
        limit = quantity(self.containers[container]["resources"]["limits"]["memory"])
        assert most < limit, f"{container} took {most / 2**20:.0f} MiB of {limit / 2**20:.0f}"
        return printed

    @contextmanager
    def running(self, container: str) -> Iterator[subprocess.Popen[bytes]]:
        """Its process, while the with block lasts."""
        with (self.folder / f"{container}.log").open("wb") as log:
            process = subprocess.Popen(
                self.command(container),
                env=self.environment(container),
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def log(self, container: str) -> str:
        return (self.folder / f"{container}.log").read_text(errors="replace")

    def probe(self, container: str, kind: str) -> subprocess.CompletedProcess[str]:
        """Run a probe once, as the kubelet does; what became of it."""
        return self.execute(container, self.containers[container][kind]["exec"]["command"])

    def passes(self, container: str, kind: str) -> bool:
        return self.probe(container, kind).returncode == 0

    def start(self, container: str, process: subprocess.Popen[bytes]) -> float:
        """Wait until the startup probe passes; seconds that it took."""
        probe = self.containers[container]["startupProbe"]
        begin = time.monotonic()
        end = begin + probe["periodSeconds"] * probe["failureThreshold"]
        while time.monotonic() < end:
            assert process.poll() is None, self.log(container)
            if self.passes(container, "startupProbe"):
                return time.monotonic() - begin
            time.sleep(0.3)
        raise AssertionError(self.log(container))

    def stop_as_a_cluster_does(self, container: str, process: subprocess.Popen[bytes]) -> int:
        """The container's hook, then SIGTERM, then SIGKILL when its time is over; the exit status."""
        grace = float(self.environment(container)["TRITONREC_GRACE_SECONDS"])
        end = time.monotonic() + grace
        done = self.execute(
            container, self.containers[container]["lifecycle"]["preStop"]["exec"]["command"], grace
        )
        assert done.returncode == 0, done.stderr
        process.terminate()
        return process.wait(max(0.1, end - time.monotonic()))

    def execute(
        self, container: str, command: list[str], timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.mapped(word) for word in command],
            env=self.environment(container),
            cwd="/",
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
