"""From an empty volume to a system that serves and remembers, by the manifests' own words."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from kubernetes_api import Kubernetes
from manifests import quantity, server, the
from pod_life import deployment_of
from pod_process import Pod
from redis_pod import kill, redis_pod
from secrets_api import SecretsApi
from shop_system import System
from toy_pod import SECRETS
from tritonrec_client import Client, Retry
from tritonrec_client.contract import Status

from python_backend.stores import UserRecord, open_event_log, open_store
from tools.memory import descendants, proportional_bytes

pytestmark = pytest.mark.server

PATIENCE = 300.0
NEWCOMER = 7_000_000
TUNING = "[pipeline]\npreferred_batch_size = 7\n"


@dataclass
class Running:
    """A system whose first apply is over, and its server."""

    system: System
    pod: Pod
    process: subprocess.Popen[bytes]
    waited: str
    built: str
    redis: tuple[Pod, subprocess.Popen[bytes]] | None = None

    @property
    def release(self) -> str:
        return (self.pod.folder / "run" / "release").read_text().strip()

    def client(self) -> Client:
        return Client(self.system.address, timeout=20, retry=Retry(attempts=1))


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory, stack: ExitStack) -> Running:
    """The cpu overlay on empty volumes, with no Secret: all that happens until the pod is ready."""
    folder = tmp_path_factory.mktemp("applied")
    with SecretsApi() as api:
        secrets = System("cpu", folder, {}).pod("Job/tritonrec-secrets")
        secrets.extra = {"KUBECONFIG": str(api.kubeconfig(folder))}
        assert "made, with a random password" in secrets.run("secrets")
        assert "stays as it is" in secrets.run("secrets")
        made = {name: secret["stringData"] for name, secret in api.secrets.items()}

    # What is applied together starts in any order: here each before what it needs.
    system = System("cpu", folder, made)
    redis, system.addresses["tritonrec-redis:6379"] = redis_pod(system.objects, folder / "redis", made)
    pod, job = system.pod("Deployment/tritonrec"), system.pod("Job/tritonrec-first-release")
    with pod.running("verify") as verify, job.running("builder") as builder:
        while "waiting for it" not in job.log("builder"):
            assert builder.poll() is None, job.log("builder")
            time.sleep(0.1)
        store = stack.enter_context(redis.running("redis"))
        redis.start("redis", store)
        built = job.finish("builder", builder, PATIENCE)
        pod.finish("verify", verify)
    process = stack.enter_context(pod.running("triton"))
    pod.start("triton", process)
    return Running(system, pod, process, pod.log("verify"), built, (redis, store))


def test_a_first_apply_ends_in_a_system_that_serves_what_the_job_built(applied: Running) -> None:
    assert "no release in" in applied.waited
    assert "every file is as it was built" in applied.waited
    assert applied.release in applied.built
    for probe in ("readinessProbe", "livenessProbe"):
        assert applied.pod.passes("triton", probe)
    with applied.client() as client:
        page = client.recommend(applied.system.known_user)
    assert page.release == applied.release
    assert page.items
    assert page.status == Status.OK


def test_the_nightly_job_finds_nothing_to_do_where_nothing_was_logged(applied: Running) -> None:
    printed = applied.system.pod("CronJob/tritonrec-refresh", "quiet").run("builder", PATIENCE)

    assert f"release {applied.release} is served at {applied.system.address}" in printed
    assert f"nothing new since release {applied.release}" in printed


def test_an_event_outlives_a_redis_that_is_killed(
    applied: Running, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert applied.redis is not None
    redis, process = applied.redis
    with applied.client() as client:
        (item, *_) = [item.item_id for item in client.recommend(NEWCOMER).items]
        client.record_event(NEWCOMER, item, "click")
        kill(process)
        assert client.recommend(NEWCOMER).items  # of what is known without a store
        again = stack.enter_context(redis.running("redis"))
        redis.start("redis", again)
        applied.redis = (redis, again)

    environment = applied.pod.environment("triton")
    monkeypatch.setenv("TRITONREC_STORE_PASSWORD", environment["TRITONREC_STORE_PASSWORD"])
    require_event(environment["TRITONREC_STORE"], item)
    with applied.client() as client:
        assert item not in [each.item_id for each in client.recommend(NEWCOMER).items]


def test_the_job_of_a_rollout_has_the_pods_serve_the_newest_release(applied: Running, tmp_path: Path) -> None:
    job = applied.system.pod("CronJob/tritonrec-rollout")
    rules = the(applied.system.objects, "Role", "tritonrec-rollout")["rules"]
    with Kubernetes(deployment_of(None), rules=rules) as cluster:
        job.extra = {"KUBECONFIG": str(cluster.kubeconfig(tmp_path))}
        printed = job.run("rollout")

    assert cluster.release == applied.release
    assert f"deployment tritonrec/tritonrec serves release {applied.release}" in printed


@pytest.mark.slow
def test_the_nightly_job_makes_a_release_of_what_was_logged_and_pods_serve_it(applied: Running) -> None:
    with applied.client() as client:
        for each in client.recommend(NEWCOMER).items[:5]:
            client.record_event(NEWCOMER, each.item_id, "purchase")
    printed = applied.system.pod("CronJob/tritonrec-refresh").run("builder", PATIENCE)

    assert f"release {applied.release} is served at {applied.system.address}" in printed
    newer = printed.rpartition("rollout.py set ")[2].strip()
    rolled = applied.system.pod("Deployment/tritonrec", "rolled", release=newer)
    rolled.run("verify")
    assert (rolled.folder / "run" / "release").read_text().strip() == newer != applied.release


@pytest.fixture(scope="module")
def on_the_edge(applied: Running, tmp_path_factory: pytest.TempPathFactory, stack: ExitStack) -> Running:
    """The edge overlay with a tuning; its volume holds the release already, its store is empty."""
    system = System("edge", tmp_path_factory.mktemp("edge"), SECRETS, tuning=TUNING)
    releases = system.volume("tritonrec-releases") / "releases"
    releases.symlink_to(applied.system.volume("tritonrec-releases") / "releases")
    built = system.pod("Job/tritonrec-first-release").run("builder", PATIENCE)
    pod = system.pod("Deployment/tritonrec")
    waited = pod.run("verify")
    process = stack.enter_context(pod.running("triton"))
    pod.start("triton", process)
    return Running(system, pod, process, waited, built)


def test_the_edge_overlay_serves_from_its_volumes_within_its_memory(on_the_edge: Running) -> None:
    assert f"release {on_the_edge.release} is there; nothing to build" in on_the_edge.built
    assert "filling the feature store" in on_the_edge.built
    with on_the_edge.client() as client:
        for user in range(200):
            assert client.recommend(user).items
        assert client.recommend(on_the_edge.system.known_user).status == Status.OK
    assert on_the_edge.pod.passes("triton", "readinessProbe")

    shared = (on_the_edge.pod.folder / "run" / "shared-memory").read_text()
    taken = sum(proportional_bytes(pid) for pid in descendants(on_the_edge.process.pid))
    taken += sum(path.stat().st_size for path in Path("/dev/shm").glob(f"{shared}*"))
    limit = quantity(server(on_the_edge.system.objects)["resources"]["limits"]["memory"])
    assert 100 * 2**20 < taken < limit / 2, f"{taken / 2**20:.0f} MiB"


def test_a_tuning_that_somebody_put_into_its_config_map_is_in_force(on_the_edge: Running) -> None:
    served = on_the_edge.pod.folder / "run" / "served" / f"pipeline_{on_the_edge.release}" / "config.pbtxt"

    assert "preferred_batch_size 7" in on_the_edge.pod.log("triton")
    assert "preferred_batch_size: 7" in served.read_text()


def test_an_event_outlives_an_edge_server_that_is_killed(on_the_edge: Running) -> None:
    with on_the_edge.client() as client:
        (item, *_) = [item.item_id for item in client.recommend(NEWCOMER).items]
        client.record_event(NEWCOMER, item, "click")
    for pid in descendants(on_the_edge.process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    on_the_edge.process.wait()

    require_event(on_the_edge.pod.environment("triton")["TRITONREC_STORE"], item)


def require_event(url: str, item: int) -> None:
    """The newcomer's event is in the log, and in the record that pages are made of."""
    log = open_event_log(url, timeout=5)
    found = [(event.user_id, event.item_id) for _, event in log.read()]
    assert (NEWCOMER, item) in found
    with open_store(url, timeout=5) as store:
        (record,) = store.get_many([NEWCOMER])
    assert isinstance(record, UserRecord)
    assert item in record.items
