"""A Deployment of a small Kubernetes, its pods, and what becomes of them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

NAMESPACE, NAME = "tritonrec", "tritonrec"

TO_START = 0.05
"""Seconds until a pod is ready, or dies."""
WORDS = "release 0123456789ab: artifacts/rank.onnx was changed"
"""What a container says last that dies."""


def deployment_of(release: str | None, *, replicas: int = 2, deadline: int = 600) -> Json:
    """A Deployment as it was applied, whose pods are told to serve `release`."""
    path = {"fieldRef": {"fieldPath": "metadata.annotations['tritonrec/release']"}}
    env = [{"name": "TRITONREC_RELEASE", "valueFrom": path}]
    labels = {"app.kubernetes.io/name": "tritonrec"}
    annotations = {} if release is None else {"tritonrec/release": release}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "generation": 1, "annotations": {"team": "shop"}},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": deadline,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {
                    "initContainers": [{"name": "verify", "image": "tritonrec:1", "env": copy.deepcopy(env)}],
                    "containers": [
                        {"name": "exporter", "image": "exporter:1"},
                        {"name": "triton", "image": "tritonrec:1", "env": env},
                    ],
                },
            },
        },
        "status": {},
    }


def release_in(template: Json) -> str | None:
    """The release that the pods of `template` are told to serve."""
    release = template["metadata"].get("annotations", {}).get("tritonrec/release")
    return None if release is None else str(release)


@dataclass
class Pod:
    """One pod: a template, and what it does with it."""

    name: str
    template: Json
    behaviour: str
    started: float
    version: int
    deleted: bool = False

    @property
    def release(self) -> str | None:
        return release_in(self.template)

    @property
    def age(self) -> float:
        return (time.monotonic() - self.started) / TO_START

    @property
    def ready(self) -> bool:
        return self.behaviour == "ready" and self.age > 1 and not self.deleted

    @property
    def restarts(self) -> int:
        return int(self.age) if "crash" in self.behaviour else 0

    def object(self) -> Json:
        """It as the API tells it."""
        metadata: Json = {"name": self.name, "namespace": "tritonrec", "resourceVersion": str(self.version)}
        metadata |= copy.deepcopy(self.template["metadata"])
        if self.deleted:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        status: Json = {"phase": "Running" if self.ready else "Pending", "conditions": [self._scheduled()]}
        if self.behaviour != "unschedulable":
            initialised = self.behaviour not in ("init crash", "init waits")
            status["initContainerStatuses"] = [self._container("verify", done=initialised)]
            status["containerStatuses"] = [
                self._container(each["name"], waits=not initialised)
                for each in self.template["spec"]["containers"]
            ]
        spec = copy.deepcopy(self.template["spec"])
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}

    def _scheduled(self) -> Json:
        if self.behaviour != "unschedulable":
            return {"type": "PodScheduled", "status": "True"}
        return {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        }

    def _container(self, name: str, *, done: bool = False, waits: bool = False) -> Json:
        ended = {"exitCode": 1, "reason": "Error", "message": WORDS}
        dies = (name == "triton" and self.behaviour == "crash") or (
            name == "verify" and self.behaviour == "init crash"
        )
        state: Json = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        if done and not dies:
            state = {"terminated": {"exitCode": 0, "reason": "Completed"}}
        elif waits:
            state = {"waiting": {"reason": "PodInitializing"}}
        elif dies and self.restarts:
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}
        return {
            "name": name,
            "image": "tritonrec:1",
            "imageID": "",
            "ready": done or (name == "exporter" and not waits) or self.ready,
            "restartCount": self.restarts if dies else 0,
            "state": state,
            "lastState": {"terminated": ended} if dies and self.restarts else {},
        }


class Pods:
    """All pods, with those that are on their way out."""

    def __init__(self, next_version: Callable[[], int]) -> None:
        self.all: list[Pod] = []
        self._next_version = next_version

    @property
    def alive(self) -> list[Pod]:
        return [pod for pod in self.all if not pod.deleted]

    def start(self, template: Json, behaviour: str, *, at_once: bool = False) -> Pod:
        version = self._next_version()
        started = -1e6 if at_once else time.monotonic()
        pod = Pod(f"tritonrec-{version}", copy.deepcopy(template), behaviour, started, version)
        self.all.append(pod)
        return pod

    def end(self, pod: Pod) -> None:
        pod.deleted = True

    def live(self) -> None:
        """Forget those that have been on their way out for long enough."""
        gone = [pod for pod in self.all if pod.deleted]
        for pod in gone[:-1]:
            self.all.remove(pod)
