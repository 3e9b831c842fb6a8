"""The Deployment that serves: which release it is told to serve, how that is changed, what its pods say.

The release stands in an annotation of the pods' template, which the containers read as an environment
variable (`fieldRef`). No file names it, so that applying the files again leaves the release alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tools.cluster.api import SHORT, NotThere, told

CONTAINER = "triton"
VARIABLE = "TRITONREC_RELEASE"
"""The container that serves, and the environment variable that tells it its release."""

RELEASE = "tritonrec/release"
"""The annotation of the pods' template that the variable is read from."""
BEFORE = "tritonrec/release-before"
"""The annotation that names the release which was served before, to go back to."""
FAILED = "tritonrec/release-failed"
"""The annotation that names the release which was taken back last."""
CAUSE = "kubernetes.io/change-cause"
"""The annotation that `kubectl rollout history` shows."""

MANAGER = "tritonrec-rollout"
STRATEGIC = "application/strategic-merge-patch+json"


class Deployment:
    """The Deployment `name` in `namespace`. Every method raises what `tools.cluster.api.told` raises."""

    def __init__(self, api: Any, namespace: str, name: str) -> None:
        from kubernetes import client

        self.namespace, self.name = namespace, name
        self._apps, self._core = client.AppsV1Api(api), client.CoreV1Api(api)

    def __str__(self) -> str:
        return f"deployment {self.namespace}/{self.name}"

    def read(self) -> Any:
        """It as it is now, a V1Deployment. Raises NotThere also where it does not serve what it is told."""
        with told(f"reading {self}"):
            found = self._apps.read_namespaced_deployment(self.name, self.namespace, _request_timeout=SHORT)
        _require_told(self, found.spec.template.spec.containers)
        return found

    def patch(self, patch: Mapping[str, Any], *, dry_run: bool = False) -> Any:
        """It as it is with `patch`, a strategic merge patch; Conflict where its resourceVersion is old.

        With `dry_run` the API checks everything and changes nothing.
        """
        with told(f"changing {self}"):
            return self._apps.patch_namespaced_deployment(
                self.name,
                self.namespace,
                dict(patch),
                field_manager=MANAGER,
                dry_run="All" if dry_run else None,
                _content_type=STRATEGIC,
                _request_timeout=SHORT,
            )

    def changes(self, since: str, seconds: int) -> Iterator[Any]:
        """It after each change that comes within `seconds`, the first after the resourceVersion `since`."""
        from kubernetes import watch

        with told(f"watching {self}"):
            for event in watch.Watch().stream(
                self._apps.list_namespaced_deployment,
                self.namespace,
                field_selector=f"metadata.name={self.name}",
                resource_version=since,
                allow_watch_bookmarks=True,
                timeout_seconds=seconds,
                # The API ends the watch itself; where it does not, the connection is dead.
                _request_timeout=(SHORT[0], seconds + SHORT[1]),
            ):
                if event and event["type"] == "DELETED":
                    raise NotThere(f"{self} was deleted")
                if event and event["type"] in ("ADDED", "MODIFIED"):
                    yield event["object"]

    def pods(self, deployment: Any) -> list[Any]:
        """Its pods that are not on their way out."""
        labels = deployment.spec.selector.match_labels or {}
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        with told(f"listing the pods of {self}"):
            found = self._core.list_namespaced_pod(
                self.namespace, label_selector=selector, _request_timeout=SHORT
            )
        return [pod for pod in found.items if pod.metadata.deletion_timestamp is None]


def release_of(thing: Any) -> str | None:
    """The release that a V1Pod or V1PodTemplateSpec is told to serve; None where it is not told any."""
    return annotation_of(thing, RELEASE)


def annotation_of(thing: Any, name: str) -> str | None:
    """The value of an annotation of `thing`; None where it has none, or an empty one."""
    annotations = (thing.metadata.annotations if thing.metadata else None) or {}
    return annotations.get(name) or None


def patch_to(
    deployment: Any, release: str, *, before: str | None, cause: str, failed: str | None = None
) -> dict[str, Any]:
    """The strategic merge patch that has `deployment` serve `release`, and nothing else changed.

    It holds the resourceVersion of what was read, so that the API refuses it where somebody was faster. All
    that is in the pods' template is the name: going back gives the old template again, and with it the old
    ReplicaSet.
    """
    return {
        "metadata": {
            "resourceVersion": deployment.metadata.resource_version,
            "annotations": {BEFORE: before, FAILED: failed, CAUSE: cause},
        },
        "spec": {"template": {"metadata": {"annotations": {RELEASE: release}}}},
    }


def _require_told(deployment: Deployment, containers: list[Any]) -> None:
    """Raise NotThere unless the container that serves reads its release from the annotation."""
    for container in containers:
        if container.name == CONTAINER:
            break
    else:
        names = ", ".join(container.name for container in containers)
        raise NotThere(f"{deployment} has no container {CONTAINER}; it has {names}")
    for variable in container.env or []:
        field = variable.value_from.field_ref if variable.value_from else None
        if variable.name == VARIABLE and field and field.field_path == f"metadata.annotations['{RELEASE}']":
            return
    raise NotThere(
        f"{deployment}: container {CONTAINER} does not read {VARIABLE} from the annotation {RELEASE}"
    )
