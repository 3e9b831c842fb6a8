"""Ten thousand events are acknowledged through Triton while Triton, or its Redis, is killed with SIGKILL."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from acknowledged import Count, Send, Senders, clicks, count
from redis_server import DURABLE, RedisServer
from tiny import Build
from tritonrec_client import Client
from tritonrec_client.contract import Acknowledgement
from tritonrec_client.errors import RecommendError

from python_backend.stores import UserEvent, open_event_log, open_store
from tools.serving.repository import write_served_repository
from tools.serving.server import Ports, TritonServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

EVENTS = 10_000
EVERY = 1200
"""About how many acknowledgements lie between two kills."""
SENDERS = 16


class Shop:
    """A server of the models that write, always at the same address, however often it is killed."""

    def __init__(self, build: Build, folder: Path, store_url: str) -> None:
        release = build.release
        write_served_repository(
            [release.path], release.name, folder / "served", overrides={"store_url": store_url}
        )
        self._folder = folder
        self._backends = build.output / "backends"
        self._ports = Ports.free()
        self._triton: TritonServer | None = None

    @contextmanager
    def connect(self) -> Iterator[Send]:
        """A sender's own client, which gives up soon: who insists is the sender."""
        with Client(f"127.0.0.1:{self._ports.grpc}", timeout=5.0) as client:

            def send(event: UserEvent) -> Acknowledgement:
                return client.record_event(
                    event.user_id,
                    event.item_id,
                    event.event,
                    timestamp=event.timestamp,
                    event_id=event.event_id,
                )

            yield send

    def start(self) -> None:
        self._triton = TritonServer(
            self._folder / "served",
            log=self._folder / "log",
            backends=self._backends,
            models=["record_event"],
            ports=self._ports,
            check=lambda client: client.get_model_config("record_event"),
        )
        self._triton.start()

    def kill(self) -> None:
        """SIGKILL for the server and for its stages' processes, at once."""
        assert self._triton is not None
        os.killpg(self._triton.pid, signal.SIGKILL)
        self._triton.stop()

    def stop(self) -> None:
        if self._triton is not None:
            self._triton.stop()


def judge(url: str, events: list[UserEvent], senders: Senders) -> Count:
    with open_event_log(url, timeout=10) as log, open_store(url, timeout=10) as store:
        return count(events, senders.acknowledged, log, store)


def say(what: str, kills: int, senders: Senders, found: Count, started: float) -> None:
    seconds = time.monotonic() - started
    print(f"\n{what}: {found}; {kills} kills, {senders.failures} failed attempts, {seconds:.0f} s")


def test_a_triton_that_is_killed_loses_no_acknowledged_event_of_lmdb(
    tiny_build: Build, tmp_path: Path
) -> None:
    url, events, kills, started = f"lmdb://{tmp_path}/store", clicks(EVENTS), 0, time.monotonic()
    shop = Shop(tiny_build, tmp_path, url)
    shop.start()
    try:
        senders = Senders(events, shop.connect, (RecommendError,), SENDERS)
        for acknowledged in range(EVERY, EVENTS, EVERY):
            senders.wait_for(acknowledged)
            time.sleep(random.uniform(0, 0.02))
            shop.kill()
            kills += 1
            shop.start()
        senders.finish()
    finally:
        shop.stop()
    found = judge(url, events, senders)
    say("LMDB, Triton and its stages killed", kills, senders, found, started)
    assert senders.failures > 0
    assert (found.acknowledged, found.lost, found.doubled) == (EVENTS, 0, 0)


def test_a_redis_that_is_killed_loses_no_acknowledged_event(tiny_build: Build, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path, settings=DURABLE)
    events, kills, started = clicks(EVENTS), 0, time.monotonic()
    redis.start()
    shop = Shop(tiny_build, tmp_path, redis.url)
    shop.start()
    try:
        senders = Senders(events, shop.connect, (RecommendError,), SENDERS)
        for acknowledged in range(EVERY, EVENTS, EVERY):
            senders.wait_for(acknowledged)
            time.sleep(random.uniform(0, 0.02))
            redis.kill()
            kills += 1
            redis.start()
        senders.finish()
        found = judge(redis.url, events, senders)
    finally:
        shop.stop()
        redis.kill()
    say("Redis, killed itself", kills, senders, found, started)
    assert senders.failures > 0
    assert (found.acknowledged, found.lost, found.doubled) == (EVENTS, 0, 0)
