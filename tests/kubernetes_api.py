"""A small Kubernetes: an HTTP server that speaks the API, with controller and kubelets that act as real ones.

It knows one Deployment and its pods. Objects have the API's own fields; resourceVersion, generation and
observedGeneration move as they do in a cluster; a watch is a stream of JSON lines with bookmarks, which ends
with 410 where it begins too early. What a pod does is said per release, by `Kubernetes.behaviour`.
"""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from pod_life import NAME, NAMESPACE, Json, Pods, release_in

APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
TICK = 0.02


@dataclass
class Kubernetes:
    """The cluster, for a with block.

    Attributes:
        behaviour: what pods of a release do: "ready", "crash", "init crash", "init waits", "unready" or
            "unschedulable".
        rules: those of the Role that the caller has; None allows everything.
        forbidden: (verb, resource) pairs that the caller lacks all the same.
        before_patch: called with this object before each of the next patches, one per patch.
        cut_watches: how many of the next watches break in the middle of a line.
        expired_watches: how many of the next watches are told that they begin too early.
        refuse: how many of the next requests of any kind get no answer.
        on_complete: called with the release's name whenever all pods serve it.
        on_pods: called with this object whenever somebody has listed the pods.
        forbid_patches_after: how many patches are allowed.
        lose_answers: of how many of the next patches the answer does not arrive.
    """

    deployment: Json | None
    behaviour: dict[str, str] = field(default_factory=dict)
    rules: list[Json] | None = None
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    before_patch: list[Callable[[Kubernetes], None]] = field(default_factory=list)
    cut_watches: int = 0
    expired_watches: int = 0
    refuse: int = 0
    on_complete: Callable[[str], None] = lambda release: None
    on_pods: Callable[[Kubernetes], None] = lambda cluster: None
    forbid_patches_after: int | None = None
    lose_answers: int = 0
    patches: list[Json] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    history: list[tuple[int, Json]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 1000
        self.pods = Pods(self.next_version)
        self._progressed = time.monotonic()
        self._complete: str | None = None
        self._ended = threading.Event()
        if self.deployment is not None:
            self.deployment["metadata"]["resourceVersion"] = str(self.next_version())
            release = release_in(self.deployment["spec"]["template"])
            for _ in range(self.deployment["spec"]["replicas"]):
                self.pods.start(self.deployment["spec"]["template"], "ready", at_once=True)
            self._complete = release

    def __enter__(self) -> Self:
        kubernetes = self

        class Requests(_Requests):
            cluster = kubernetes

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self._server.daemon_threads = True
        threads = (lambda: self._server.serve_forever(TICK), self._control)
        self._threads = [threading.Thread(target=each, daemon=True) for each in threads]
        with self.changed:
            if self.deployment is not None:
                self._reconcile()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(5)

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig for it, written into `folder` (as JSON, which is YAML)."""
        path = folder / "kubeconfig"
        server = f"http://127.0.0.1:{self._server.server_port}"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "shop",
            "clusters": [{"name": "here", "cluster": {"server": server}}],
            "users": [{"name": "deployer", "user": {"token": "secret"}}],
            "contexts": [{"name": "shop", "context": {"cluster": "here", "user": "deployer"}}],
        }
        path.write_text(json.dumps(content))
        return path

    @property
    def release(self) -> str | None:
        """The release that its pods are told to serve."""
        assert self.deployment is not None
        return release_in(self.deployment["spec"]["template"])

    @property
    def served(self) -> set[str | None]:
        """The releases of its pods that are ready."""
        with self.changed:
            return {pod.release for pod in self.pods.alive if pod.ready}

    def next_version(self) -> int:
        """The next resourceVersion of the cluster."""
        self.version += 1
        return self.version

    def change(self, patch: Mapping[str, Any]) -> Json:
        """Apply a strategic merge patch as the API would; the object after it."""
        with self.changed:
            assert self.deployment is not None
            before = copy.deepcopy(self.deployment["spec"])
            merge(self.deployment, {key: value for key, value in patch.items() if key != "status"})
            if self.deployment["spec"] != before:
                self.deployment["metadata"]["generation"] += 1
            self._note()
            return copy.deepcopy(self.deployment)

    def _note(self) -> None:
        """The Deployment is another now: it gets a resourceVersion, and whoever watches hears of it."""
        assert self.deployment is not None
        self.deployment["metadata"]["resourceVersion"] = str(self.next_version())
        self.history.append((self.version, copy.deepcopy(self.deployment)))
        self.changed.notify_all()

    def _control(self) -> None:
        """The deployment controller and the kubelets."""
        while not self._ended.wait(TICK):
            with self.changed:
                if self.deployment is not None:
                    self._reconcile()

    def _reconcile(self) -> None:
        assert self.deployment is not None
        spec, metadata = self.deployment["spec"], self.deployment["metadata"]
        template, replicas = spec["template"], spec["replicas"]
        self.pods.live()
        new = [pod for pod in self.pods.alive if pod.template == template]
        old = [pod for pod in self.pods.alive if pod.template != template]
        if self.deployment["status"].get("observedGeneration") != metadata["generation"]:
            self._progressed = time.monotonic()
        elif len(new) < replicas and len(new) + len(old) < replicas + 1:
            release = release_in(template) or ""
            new.append(self.pods.start(template, self.behaviour.get(release, "ready")))
        elif old and sum(pod.ready for pod in new) > replicas - len(old):
            self.pods.end(old.pop(0))
        self._set_status(template, replicas, new, old)

    def _set_status(self, template: Json, replicas: int, new: list[Any], old: list[Any]) -> None:
        assert self.deployment is not None
        ready = sum(pod.ready for pod in (*new, *old))
        counts = {"replicas": len(new) + len(old), "updatedReplicas": len(new)}
        counts |= {"readyReplicas": ready, "availableReplicas": ready}
        counts["unavailableReplicas"] = max(0, counts["replicas"] - ready)
        before = self.deployment["status"]
        if any(before.get(name, 0) != value for name, value in counts.items()):
            self._progressed = time.monotonic()
        whole = len(new) == replicas and not old and ready == replicas
        late = time.monotonic() - self._progressed > self.deployment["spec"]["progressDeadlineSeconds"]
        if whole:
            progressing = ("True", "NewReplicaSetAvailable", "has successfully progressed")
        elif late:
            progressing = ("False", "ProgressDeadlineExceeded", "has timed out progressing")
        else:
            progressing = ("True", "ReplicaSetUpdated", "is progressing")
        enough = ready >= replicas
        available = (
            ("True", "MinimumReplicasAvailable", "has minimum availability")
            if enough
            else ("False", "MinimumReplicasUnavailable", "does not have minimum availability")
        )
        status = {
            "observedGeneration": self.deployment["metadata"]["generation"],
            **{name: value for name, value in counts.items() if value},  # the API leaves out zeros
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": f"ReplicaSet {message}."}
                for kind, (status, reason, message) in (
                    ("Available", available),
                    ("Progressing", progressing),
                )
            ],
        }
        if status != before:
            self.deployment["status"] = status
            self._note()
        release = release_in(template)
        if whole and release is not None and release != self._complete:
            self._complete = release
            self.on_complete(release)
        elif not whole:
            self._complete = None


def merge(target: Json, patch: Mapping[str, Any]) -> None:
    """A strategic merge patch, as far as it is needed here: null removes, and there are no lists."""
    for key, value in patch.items():
        assert not isinstance(value, list), f"{key}: lists are merged by their keys; this cluster cannot"
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


class _Requests(BaseHTTPRequestHandler):
    """What the API server answers."""

    cluster: Kubernetes
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        url, query = self._asked()
        if url is None:
            return
        cluster = self.cluster
        if url == f"{APPS}/{NAME}" and self._allowed("get", "deployments"):
            with cluster.changed:
                found = copy.deepcopy(cluster.deployment)
            if found is None:
                self._refuse(404, "NotFound", f'deployments.apps "{NAME}" not found')
            else:
                self._answer(200, found)
        elif url == APPS and query.get("watch") == "true" and self._allowed("watch", "deployments"):
            self._watch(int(query["resourceVersion"]), float(query["timeoutSeconds"]))
        elif url == PODS and self._allowed("list", "pods"):
            with cluster.changed:
                items = [pod.object() for pod in cluster.pods.all]
            metadata = {"resourceVersion": str(cluster.version)}
            self._answer(200, {"apiVersion": "v1", "kind": "PodList", "metadata": metadata, "items": items})
            cluster.on_pods(cluster)
        elif url not in (f"{APPS}/{NAME}", APPS, PODS):
            self._refuse(404, "NotFound", f'the server could not find "{url.rpartition("/")[2]}"')

    def do_PATCH(self) -> None:
        url, query = self._asked()
        if url is None or not self._allowed("patch", "deployments"):
            return
        cluster = self.cluster
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Content-Type"] != "application/strategic-merge-patch+json":
            self._refuse(415, "UnsupportedMediaType", f"not a patch: {self.headers['Content-Type']}")
            return
        if cluster.before_patch:
            cluster.before_patch.pop(0)(cluster)
        with cluster.changed:
            assert cluster.deployment is not None
            now = cluster.deployment["metadata"]["resourceVersion"]
            if body["metadata"].pop("resourceVersion", now) != now:
                wanted = f'Operation cannot be fulfilled on deployments.apps "{NAME}"'
                self._refuse(409, "Conflict", f"{wanted}: the object has been modified")
            elif query.get("dryRun") == "All":
                self._answer(200, copy.deepcopy(cluster.deployment))
            else:
                cluster.patches.append(body)
                if len(cluster.patches) == cluster.forbid_patches_after:
                    cluster.forbidden.add(("patch", "deployments"))
                changed = cluster.change(body)
                if cluster.lose_answers:
                    cluster.lose_answers -= 1
                    self.close_connection = True
                else:
                    self._answer(200, changed)

    def _asked(self) -> tuple[str | None, dict[str, str]]:
        """The path and the query; no path where the connection breaks instead."""
        url = urlsplit(self.path)
        self.cluster.requests.append(f"{self.command} {self.path}")
        if self.cluster.refuse:
            self.cluster.refuse -= 1
            self.close_connection = True
            return None, {}
        return url.path, {key: values[0] for key, values in parse_qs(url.query).items()}

    def _allowed(self, verb: str, resource: str) -> bool:
        cluster = self.cluster
        # A list or a watch is of one object where it is told so, and only then may a rule name that object.
        named = verb in ("get", "patch") or f"metadata.name%3D{NAME}" in self.path
        granted = cluster.rules is None or any(
            verb in rule["verbs"]
            and resource in rule["resources"]
            and ("resourceNames" not in rule or (named and NAME in rule["resourceNames"]))
            for rule in cluster.rules
        )
        if granted and (verb, resource) not in cluster.forbidden:
            return True
        user = "system:serviceaccount:tritonrec:rollout"
        self._refuse(403, "Forbidden", f'{resource} is forbidden: User "{user}" cannot {verb} it')
        return False

    def _answer(self, status: int, content: Json) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, code: int, reason: str, message: str) -> None:
        self._answer(code, _failure(code, reason, message))

    def _watch(self, since: int, seconds: float) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who watches may go at any time
            self._stream(since, seconds)

    def _stream(self, since: int, seconds: float) -> None:
        cluster = self.cluster
        end = time.monotonic() + seconds
        if cluster.expired_watches:
            cluster.expired_watches -= 1
            self._chunk({"type": "ERROR", "object": _failure(410, "Expired", f"too old: {since}")})
            end = 0.0
        while time.monotonic() < end:
            with cluster.changed:
                fresh = [(version, each) for version, each in cluster.history if version > since]
                if not fresh:
                    cluster.changed.wait(min(0.2, max(0.0, end - time.monotonic())))
            for version, each in fresh:
                since = version
                if cluster.cut_watches:
                    cluster.cut_watches -= 1
                    self.wfile.write(b'1000\r\n{"type": "MODIFIED", "object": {"meta')
                    self.close_connection = True
                    return
                self._chunk({"type": "MODIFIED", "object": each})
            if not fresh:
                bookmark = {"kind": "Deployment", "apiVersion": "apps/v1"}
                bookmark["metadata"] = {"resourceVersion": str(since)}
                self._chunk({"type": "BOOKMARK", "object": bookmark})
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, event: Json) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()


def _failure(code: int, reason: str, message: str) -> Json:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
