"""How far a rollout is, as the status of a Deployment and of its pods says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tools.cluster.deployment import release_of

RESTARTS = 3
"""A pod that died so often, and waits to be started again, will not live."""
LONGEST = 300
"""Characters of a container's last words that are shown."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a Deployment's newest template is.

    Attributes:
        ready: how many pods of it are available.
        wanted: how many there are to be.
        text: what is being waited for, in words; "" where nothing is.
        problem: why the controller has given up, None while it has not.
    """

    ready: int
    wanted: int
    text: str
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every pod is of the newest template and available, and no other is left."""
        return not self.text and self.problem is None


def progress_of(deployment: Any) -> Progress:
    """How far `deployment` (a V1Deployment) is, by the same rules as ``kubectl rollout status``."""
    status, wanted = deployment.status, deployment.spec.replicas
    wanted = 1 if wanted is None else wanted
    if (status.observed_generation or 0) < deployment.metadata.generation:
        return Progress(0, wanted, "waiting for the controller to see the change")
    updated, available = status.updated_replicas or 0, status.available_replicas or 0
    # Availability is counted over all pods; those of the new template are at most as many.
    ready = max(0, min(updated, available - max(0, (status.replicas or 0) - updated)))
    for condition in status.conditions or []:
        if condition.type == "Progressing" and condition.reason == "ProgressDeadlineExceeded":
            seconds = deployment.spec.progress_deadline_seconds
            problem = f"no progress for {seconds} s ({updated} of {wanted} pods are new, {ready} available)"
            return Progress(ready, wanted, "stuck", problem)
        if condition.type == "ReplicaFailure" and condition.status == "True":
            return Progress(ready, wanted, f"no pod can be made: {condition.message}")
    if updated < wanted:
        return Progress(ready, wanted, f"{updated} of {wanted} pods are new")
    if (status.replicas or 0) > updated:
        return Progress(ready, wanted, f"{(status.replicas or 0) - updated} old pods are still there")
    if available < updated:
        return Progress(ready, wanted, f"{available} of {updated} new pods are available")
    return Progress(wanted, wanted, "")


def crash_of(pods: Iterable[Any], release: str) -> str | None:
    """Why a pod that is told to serve `release` dies again and again; None where none does."""
    for pod in pods:
        if release_of(pod) != release:
            continue
        for container in _containers(pod):
            waiting = container.state.waiting if container.state else None
            if waiting and waiting.reason == "CrashLoopBackOff" and container.restart_count >= RESTARTS:
                return f"{_said(pod, container)} died {container.restart_count} times{_last_words(container)}"
    return None


def hindrances_of(pods: Iterable[Any], release: str | None) -> str:
    """What keeps the pods that are told to serve `release` from being ready, in words; "" for nothing."""
    found: list[str] = []
    for pod in pods:
        if release_of(pod) != release:
            continue
        for condition in pod.status.conditions or []:
            if condition.type == "PodScheduled" and condition.status == "False":
                found.append(f"pod {pod.metadata.name} has no node: {condition.message}")
        found += [each for container in _containers(pod) if (each := _hindrance(pod, container))]
    return "; ".join(found)


def _hindrance(pod: Any, container: Any) -> str | None:
    """Why `container` of `pod` is not ready, as far as it tells."""
    waiting = container.state.waiting if container.state else None
    if waiting and waiting.reason not in ("PodInitializing", "ContainerCreating"):
        message = f": {waiting.message}" if waiting.message else ""
        return f"{_said(pod, container)}: {waiting.reason}{message}{_last_words(container)}"
    if container.state and container.state.running and not container.ready:
        # Init containers are not to be ready but to end.
        doing = "has not ended" if container in _inits(pod) else "runs but is not ready"
        return f"{_said(pod, container)} {doing}{_last_words(container)}"
    return None


def _containers(pod: Any) -> list[Any]:
    return [*_inits(pod), *(pod.status.container_statuses or [])]


def _inits(pod: Any) -> list[Any]:
    return pod.status.init_container_statuses or []


def _said(pod: Any, container: Any) -> str:
    return f"container {container.name} of pod {pod.metadata.name}"


def _last_words(container: Any) -> str:
    """How it ended before, as the kubelet tells it; "" where it never did."""
    ended = container.last_state.terminated if container.last_state else None
    if ended is None:
        return ""
    words = " ".join((ended.message or "").split())
    words = f"…{words[-LONGEST:]}" if len(words) > LONGEST else words
    return f", last with exit code {ended.exit_code} ({ended.reason})" + (f": {words}" if words else "")
