"""Writers and servers are killed while events are being acknowledged: none is lost, none is there twice.

tests/server/test_feedback_chaos.py does the same, at length, through Triton.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acknowledged import Send, Senders, clicks, count
from redis_server import DURABLE, RedisServer
from tritonrec_client.contract import Acknowledgement

from python_backend.stores import StoreUnavailable, UserEvent, open_event_log, open_store
from python_backend.stores.events import encode_event

WRITER = """
import sys
from python_backend.stores import open_event_log
from python_backend.stores.events import decode_event
with open_event_log(sys.argv[1]) as log:
    for line in sys.stdin:
        (answer,) = log.record([decode_event(bytes.fromhex(line))])
        print(int(answer), flush=True)
"""


class Killed(Exception):
    """The writer died before it answered."""


class Writer:
    """A process that writes events to a log; another one takes its place when it was killed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{WRITER}", self._url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, event: UserEvent) -> Acknowledgement:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(encode_event(event).hex() + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except (OSError, ValueError):
            answer = ""
        if not answer.endswith("\n"):
            process.wait()
            self._start()
            raise Killed
        return Acknowledgement(int(answer))

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        process = self._process
        process.kill()
        process.communicate()


def test_writers_of_lmdb_that_are_killed_lose_nothing_and_write_nothing_twice(tmp_path: Path) -> None:
    url, events, kills = f"lmdb://{tmp_path}/store", clicks(500), 0
    writers: list[Writer] = []

    @contextmanager
    def connect() -> Iterator[Send]:
        writers.append(Writer(url))
        yield writers[-1].send

    senders = Senders(events, connect, (Killed,), count=2, patience=60)
    try:
        for acknowledged in (120, 300):
            senders.wait_for(acknowledged)
            time.sleep(random.uniform(0, 0.005))
            for writer in writers:
                writer.kill()
            kills += len(writers)
        senders.finish()
    finally:
        for writer in writers:
            writer.close()
    with open_event_log(url) as log, open_store(url) as store:
        found = count(events, senders.acknowledged, log, store)
    print(f"{kills} kills: {found}")
    assert senders.failures > 0
    assert (found.acknowledged, found.lost, found.doubled) == (500, 0, 0)


def test_a_redis_that_is_killed_loses_nothing_and_nothing_is_written_twice(tmp_path: Path) -> None:
    events, kills = clicks(500), 0
    server = RedisServer(tmp_path, settings=DURABLE)
    server.start()

    @contextmanager
    def connect() -> Iterator[Send]:
        with open_event_log(server.url) as log:
            yield lambda event: log.record([event])[0]

    try:
        senders = Senders(events, connect, (StoreUnavailable,), count=4, patience=60)
        for acknowledged in (120, 300):
            senders.wait_for(acknowledged)
            time.sleep(random.uniform(0, 0.005))
            server.kill()
            kills += 1
            server.start()
        senders.finish()
        with open_event_log(server.url) as log, open_store(server.url, timeout=5) as store:
            found = count(events, senders.acknowledged, log, store)
    finally:
        server.kill()
    print(f"{kills} kills: {found}")
    assert senders.failures > 0
    assert (found.acknowledged, found.lost, found.doubled) == (500, 0, 0)
