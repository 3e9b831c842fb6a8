"""The containers of the cpu overlay, started as plain processes by the very words of the manifests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import tritonclient.grpc as grpcclient
from manifests import ROOT, containers, pods, rendered, the
from pod_process import Pod
from redis_pod import redis_pod
from test_alerts import EXPORTED
from toy_pod import SECRETS, toy_release
from tritonclient.utils import InferenceServerException
from tritonrec_client import Client

from python_backend.stores import open_event_log, open_store

FIRST, SECOND = "0123456789ab", "ba9876543210"
KEY = SECRETS["tritonrec-control"]["key"]
NASTY = {**SECRETS, "tritonrec-redis": {"password": 'with "quotes", $PATH, \\ and a space'}}


@dataclass(frozen=True)
class Serving:
    """The server's container while it runs."""

    pod: Pod
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.pod.extra['TRITONREC_GRPC_PORT']}"


@pytest.fixture(scope="module")
def serving(new_pod: Callable[..., Pod]) -> Iterator[Serving]:
    """A pod that has been through its init containers and its startup probe."""
    pod = new_pod()
    toy_release(pod.folder / "releases", FIRST)
    pod.run("verify")
    with pod.running("triton") as process:
        pod.start("triton", process)
        yield Serving(pod, process)


@pytest.mark.server
def test_the_init_container_notes_the_oldest_release(new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    toy_release(pod.folder / "releases", FIRST)

    assert f"release {FIRST}: every file is as it was built" in pod.run("verify")
    assert (pod.folder / "run" / "release").read_text().strip() == FIRST


def test_the_init_container_takes_the_release_that_the_annotation_names(new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    for name in (FIRST, SECOND):
        toy_release(pod.folder / "releases", name)
    pod.annotations = {"tritonrec/release": SECOND}
    pod.run("verify")

    assert (pod.folder / "run" / "release").read_text().strip() == SECOND


def test_a_release_that_was_changed_is_not_served(new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    path = toy_release(pod.folder / "releases", FIRST)
    (path / "code" / "python_backend" / "rules.py").write_text("tampered with")

    with pytest.raises(AssertionError, match=r"python_backend/rules.py: was changed"):
        pod.run("verify")
    assert not (pod.folder / "run" / "release").exists()


@pytest.mark.server
def test_every_probe_passes_and_clients_get_pages(serving: Serving) -> None:
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        done = serving.pod.probe("triton", kind)
        assert (done.returncode, done.stderr) == (0, ""), kind

    with Client(serving.address, timeout=10) as client:
        assert [item.item_id for item in client.recommend(user=7).items] == [1, 2, 3, 4, 5]


@pytest.mark.server
def test_a_server_tells_every_number_that_rules_and_dashboard_ask_for(serving: Serving) -> None:
    with Client(serving.address, timeout=10) as client:
        client.recommend(user=7)
    time.sleep(1.5)  # stages tell theirs once a second
    url = f"http://127.0.0.1:{serving.pod.extra['TRITONREC_METRICS_PORT']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        told = {line.partition("{")[0] for line in answer.read().decode().splitlines()}

    assert {name for name in EXPORTED if "_gpu_" not in name} <= told


@pytest.mark.server
def test_the_server_is_controlled_by_nobody_without_the_key(serving: Serving) -> None:
    header = "triton-grpc-protocol-tritonrec-key"
    with grpcclient.InferenceServerClient(serving.address) as client:
        with pytest.raises(InferenceServerException, match="restricted"):
            client.load_model("recommend")
        with pytest.raises(InferenceServerException, match="restricted"):
            client.update_trace_settings(settings={"trace_rate": "1"})
        with pytest.raises(InferenceServerException, match="restricted"):
            client.load_model("recommend", headers={header: "guessed"})
        client.load_model("recommend", headers={header: KEY})
        assert client.get_trace_settings(headers={header: KEY}) is not None


@pytest.mark.server
def test_over_http_it_is_controlled_by_nobody_without_the_key_either(serving: Serving) -> None:
    url = f"http://127.0.0.1:{serving.pod.extra['TRITONREC_HTTP_PORT']}/v2/repository/index"

    with pytest.raises(urllib.error.HTTPError, match=r"40[03]"):
        urllib.request.urlopen(urllib.request.Request(url, b"", method="POST"), timeout=10)
    asked = urllib.request.Request(url, b"", {"tritonrec-key": KEY}, method="POST")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert b"recommend" in answer.read()


@pytest.mark.server
def test_http_is_answered_inside_the_pod_alone_and_grpc_everywhere(serving: Serving) -> None:
    def reached(host: str, kind: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, int(serving.pod.extra[f"TRITONREC_{kind}_PORT"]))) == 0

    assert reached("127.0.0.1", "HTTP")
    assert not reached("127.0.0.2", "HTTP")
    assert all(reached("127.0.0.2", kind) for kind in ("GRPC", "METRICS"))


@pytest.mark.server
@pytest.mark.slow
def test_traces_of_requests_arrive_at_the_collector(new_pod: Callable[..., Pod]) -> None:
    arrived: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{collector.server_address[1]}/v1/traces"
        pod = new_pod(("cpu", ("tracing",)), TRITONREC_TRACE_URL=url, TRITONREC_TRACE_RATE="1")
        toy_release(pod.folder / "releases", FIRST)
        pod.run("verify")
        with pod.running("triton") as process:
            pod.start("triton", process)
            end = time.monotonic() + 30
            while not arrived and time.monotonic() < end:
                pod.passes("triton", "readinessProbe")
        collector.shutdown()

    assert {path for path, _ in arrived} == {"/v1/traces"}
    sent = b"".join(body for _, body in arrived)
    assert b"tritonrec" in sent
    assert b"recommend" in sent


@pytest.mark.server
def test_a_background_load_leaves_the_pod_ready(serving: Serving) -> None:
    """Triton's own readiness is false meanwhile."""
    program = f"""
import tritonclient.grpc
client = tritonclient.grpc.InferenceServerClient({serving.address!r})
client.load_model("record_event", headers={{"triton-grpc-protocol-tritonrec-key": {KEY!r}}})
"""
    with subprocess.Popen([sys.executable, "-c", program]) as loading:
        verdicts = []
        while loading.poll() is None:
            verdicts.append(serving.pod.passes("triton", "readinessProbe"))
    assert loading.returncode == 0
    assert verdicts
    assert all(verdicts)


@pytest.mark.server
def test_a_dead_stage_takes_the_pod_out_of_service_at_once_and_ends_it(new_pod: Callable[..., Pod]) -> None:
    pod = new_pod(TRITONREC_GRACE_SECONDS="12")  # it waits less for the dead one
    toy_release(pod.folder / "releases", FIRST)
    pod.run("verify")
    with pod.running("triton") as process:
        pod.start("triton", process)
        server = int((pod.folder / "run" / "triton.pid").read_text())
        stages = subprocess.run(
            ["pgrep", "-P", str(server), "-f", "stub.*pipeline"], capture_output=True, text=True, check=True
        )
        os.kill(int(stages.stdout.split()[0]), signal.SIGKILL)  # its twin still answers

        verdicts = [pod.passes("triton", "readinessProbe") for _ in range(3)]

        assert verdicts == [False, False, False]
        assert process.wait(30) == 1
        assert not pod.passes("triton", "livenessProbe")


@pytest.mark.server
def test_a_pod_whose_server_hangs_is_neither_ready_nor_alive(serving: Serving) -> None:
    """As with a dead CUDA context: connections are accepted, and nothing is answered."""
    server = int((serving.pod.folder / "run" / "triton.pid").read_text())
    probes = {name: list(serving.pod.containers["triton"][name]["exec"]["command"]) for name in PROBES}
    os.kill(server, signal.SIGSTOP)
    try:
        for name, command in probes.items():
            quick = [word if not word.startswith("--timeout=") else "--timeout=1" for word in command]
            done = serving.pod.execute("triton", quick)
            assert done.returncode == 1, name
            assert "DEADLINE_EXCEEDED" in done.stderr
    finally:
        os.kill(server, signal.SIGCONT)
    assert serving.pod.passes("triton", "readinessProbe")


PROBES = ("readinessProbe", "livenessProbe")


@pytest.mark.server
def test_a_probe_is_cheap(serving: Serving) -> None:
    """Processor time of a probe, Python's start included; it runs every five seconds."""
    begin = os.times()
    for _ in range(3):
        assert serving.pod.passes("triton", "readinessProbe")
    end = os.times()

    spent = (end.children_user + end.children_system - begin.children_user - begin.children_system) / 3
    assert spent < 0.6, f"{spent:.2f} s"


@pytest.fixture
def redis_process(tmp_path: Path) -> Iterator[tuple[Pod, subprocess.Popen[bytes], str]]:
    """The container of the StatefulSet, and where it listens; its password is a nasty one."""
    pod, address = redis_pod(rendered("cpu"), tmp_path, NASTY)
    with pod.running("redis") as process:
        yield pod, process, address


def test_redis_starts_with_its_password_and_has_on_disk_what_it_answered(
    redis_process: tuple[Pod, subprocess.Popen[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, process, address = redis_process
    pod.start("redis", process)
    for kind in ("readinessProbe", "livenessProbe"):
        assert pod.passes("redis", kind)
    url = f"redis://{address}/0"
    with open_store(url, timeout=5) as store, pytest.raises(Exception, match="Authentication required"):
        store.get_many([1])

    # As the server's container gets it.
    template = the(pod.objects, "Deployment", "tritonrec")["spec"]["template"]
    server = Pod(
        pod.objects, template, pod.folder / "server", NASTY, addresses={"tritonrec-redis:6379": address}
    )
    environment = server.environment("triton")
    assert environment["TRITONREC_STORE"] == url
    monkeypatch.setenv("TRITONREC_STORE_PASSWORD", environment["TRITONREC_STORE_PASSWORD"])
    with open_store(url, timeout=5) as store:
        assert store.get_many([1]) == [None]
    log = open_event_log(url, timeout=5)
    assert log.record([]) == []
    assert log.end() == ""
    assert any(path.is_file() for path in (pod.folder / "data").rglob("*.aof"))
    assert NASTY["tritonrec-redis"]["password"] not in Path(f"/proc/{process.pid}/cmdline").read_text()


@pytest.mark.parametrize("overlay", ["gpu", "cpu", "edge"])
def test_every_program_knows_its_options(overlay: str) -> None:
    """The jobs need a cluster or an hour; their parsers tell whether the words are right."""
    for name, pod in pods(rendered(overlay)):
        for each in containers(pod):
            words = [*each["command"], *each.get("args", [])]
            if words[0] != "python":
                continue
            script = ROOT / words[1].removeprefix("/opt/tritonrec/")
            text = script.read_text()
            for word in words[2:]:
                option = word.partition("=")[0]
                known = f'"{option}"' in text or f'("{option.removeprefix("--")}",' in text
                assert known or not option.startswith("--"), f"{name}: {script.name} has no {option}"
