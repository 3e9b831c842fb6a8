"""Requests of different callers share executions: what Triton is here for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny import Server
from tritonrec_client import Client

from tools.serving.server import Statistics

pytestmark = pytest.mark.server

CALLERS, CALLS = 16, 25


def test_concurrent_callers_are_answered_together(server: Server) -> None:
    users = server.known_users[:CALLERS]

    def call(user: int) -> list[list[int]]:
        with Client(server.grpc_address, timeout=30) as client:
            return [[place.item_id for place in client.recommend(user).items] for _ in range(CALLS)]

    alone = [call(user)[0] for user in users]
    before = server.triton.statistics()
    with ThreadPoolExecutor(CALLERS) as threads:
        pages = list(threads.map(call, users))
    after = counted(server, before, CALLERS * CALLS)

    assert pages == [[page] * CALLS for page in alone]
    spent = after[f"pipeline_{server.release}"] - before[f"pipeline_{server.release}"]
    # Triton counts a request just after it was answered, so the one before the first may be among these.
    assert 0 <= spent.requests - CALLERS * CALLS <= 1
    # Six or so share an execution on two cores; a machine with many cores needs to share less.
    assert spent.executions < 0.8 * spent.requests


def counted(server: Server, before: Mapping[str, Statistics], requests: int) -> Mapping[str, Statistics]:
    """What Triton has counted, as soon as all `requests` are there: it counts them after it has answered."""
    pipeline = f"pipeline_{server.release}"
    for _ in range(50):
        after = server.triton.statistics()
        if after[pipeline].requests - before[pipeline].requests >= requests:
            break
        time.sleep(0.1)
    return after


def test_a_caller_alone_does_not_wait_for_company(server: Server) -> None:
    before = server.triton.statistics()
    with Client(server.grpc_address, timeout=30) as client:
        for _ in range(20):
            client.recommend(server.known_users[0])
    after = counted(server, before, 20)

    spent = after[f"pipeline_{server.release}"] - before[f"pipeline_{server.release}"]
    assert (spent.requests, spent.executions) == (20, 20)
