"""A pod that ends under load loses no request, by the manifests' own hook and the server's own signal.

No client tries again. Some ask through a Service's one address, some through the name that leads to all pods.
"""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest
from cluster_network import ClusterIP, Endpoints, NameServer
from pod_process import Pod
from toy_pod import toy_release
from tritonrec_client.options import DEFAULT_KEEPALIVE
from tritonrec_client.wire import connection_options

from tools.load.calls import Calls
from tools.load.generator import Done, Generator
from tools.load.recording import RECOMMEND
from tools.load.schedule import Step, poisson
from tools.load.visitors import Audience
from tools.serving.pod import Drain

RELEASE = "0123456789ab"
GRACE = 12
"""Seconds that a pod gets here; a deployment gives it 120."""
HEARING = 1.0
"""Seconds until Services and names have heard of a change."""
RATE, SECONDS = 40.0, 14.0
HOSTS = ("127.0.0.1", "127.0.0.2")


class InTurn:
    """Several clients that take requests in turn."""

    def __init__(self, clients: list[Calls]) -> None:
        self._clients = clients

    def send(self, number: int, done: Done) -> None:
        self._clients[number % len(self._clients)].send(number, done)


def pages(host: str, port: str) -> int:
    """How many pages the server at `host` has made, as its metrics say."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    line = next(
        line
        for line in text.splitlines()
        if line.startswith('nv_inference_request_success{model="recommend"')
    )
    return int(float(line.rpartition(" ")[2]))


@pytest.mark.server
def test_a_pod_that_joins_gets_requests_and_one_that_ends_loses_none(new_pod: Callable[..., Pod]) -> None:
    first = new_pod(TRITONREC_GRACE_SECONDS=str(GRACE), TRITONREC_HOST=HOSTS[0])
    second = new_pod(**{**first.extra, "TRITONREC_HOST": HOSTS[1], "TRITONREC_HTTP_HOST": HOSTS[1]})
    port, metrics = first.extra["TRITONREC_GRPC_PORT"], first.extra["TRITONREC_METRICS_PORT"]
    everybody = [(host, int(port)) for host in HOSTS]
    endpoints = Endpoints(everybody[:1])
    with ExitStack() as stack:
        processes = []
        for pod in (first, second):
            toy_release(pod.folder / "releases", RELEASE)
            pod.run("verify")
            processes.append(stack.enter_context(pod.running("triton")))
        for host, process, pod in zip(HOSTS, processes, (first, second), strict=True):
            # A pod's probe asks its own address; here the second has another one.
            while True:
                assert process.poll() is None, pod.log("triton")
                try:
                    pages(host, metrics)
                    break
                except OSError:
                    time.sleep(0.3)
            assert "is served" in _eventually(pod)

        service, names = ClusterIP(endpoints), NameServer(endpoints)
        stack.callback(service.close)
        stack.callback(names.close)
        headless = f"dns://127.0.0.1:{names.port}/tritonrec-headless:{port}"
        options = connection_options(DEFAULT_KEEPALIVE, None)["channel_args"]
        # A channel of its own for each, as for clients in several processes.
        own = ("grpc.use_local_subchannel_pool", 1)
        clients = [
            stack.enter_context(Calls(address, timeout=2.0, options=[*options, own]))
            for address in (service.address, headless, service.address, headless)
        ]
        schedule = poisson([Step(RATE, SECONDS)], seed=3)
        visitors = Audience(np.arange(1, 100), np.arange(1, 50)).draw(
            len(schedule), clients[0].session, seed=3
        )
        for client in clients:
            client.expect(visitors)
        generator = Generator(InTurn(clients), schedule)
        load = threading.Thread(target=generator.run)
        load.start()
        drain = Drain(GRACE)

        time.sleep(1)
        before = pages(HOSTS[1], metrics)  # its own, when it started
        endpoints.change(everybody, after=0)
        time.sleep(1.1 * drain.age + 1)
        joined = pages(HOSTS[1], metrics)

        endpoints.change(everybody[1:], after=HEARING)
        status = first.stop_as_a_cluster_does("triton", processes[0])
        after = pages(HOSTS[1], metrics)
        load.join()
        totals = generator.recording.totals()[RECOMMEND]

    assert joined > before
    assert status == 0
    assert dict(totals.errors) == {}
    assert (totals.skipped, totals.answered) == (0, len(schedule))
    assert after > joined


def _eventually(pod: Pod) -> str:
    for _ in range(100):
        if "is served" in pod.log("triton"):
            break
        time.sleep(0.1)
    return pod.log("triton")
