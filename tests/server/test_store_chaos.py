"""The store dies, hangs and holds damage under a running server: pages come, and become personal again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from redis_server import RedisServer
from tiny import Build, Server
from tritonrec_client import Client, Page, Request, Status

from python_backend.stores import open_store
from tools.data.store import fill_store

pytestmark = pytest.mark.server

STORE_TIMEOUT = 0.3
"""Seconds; longer than by default, so that a busy machine is not taken for a slow store."""
PROCESSES = 2
"""Of the pipeline; each keeps its own count of the store's failures."""
RETRY_AFTER = 1.0
"""The default: seconds for which a store that failed is left alone."""
TROUBLE = 1.6
"""Seconds for which users call while the store is in trouble: time for more than one try to reach it."""


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    yield redis
    redis.kill()


@pytest.fixture(scope="module")
def on_redis(tiny_build: Build, redis_server: RedisServer) -> Iterator[Server]:
    """The tiny release on a server that looks its users up in Redis, which comes after the server."""
    timeout = str(STORE_TIMEOUT * 1000)
    overrides = {"store_url": redis_server.url, "store_timeout_ms": timeout}
    with tiny_build.triton("served-on-redis", **overrides) as triton:
        server = Server(triton, tiny_build)
        with Client(server.grpc_address, timeout=20.0) as client:
            assert client.recommend(server.known_users[0]).status == Status.STORE_UNAVAILABLE
        redis_server.start()
        yield server


@pytest.fixture
def client(on_redis: Server, redis_server: RedisServer) -> Iterator[Client]:
    """A client of a server whose store works and knows every user."""
    fill(redis_server, on_redis)
    with Client(on_redis.grpc_address, timeout=20.0) as client:
        client.connect()
        become_personal(client, on_redis.known_users[-1])
        yield client


def fill(redis_server: RedisServer, server: Server) -> None:
    with open_store(redis_server.url, timeout=10) as store:
        fill_store(store, server.dataset.interactions, server.dataset.user_features)


def become_personal(client: Client, user: int) -> Page:
    """A page that rests on the store, as all soon do when it is back: each process finds that out itself."""
    deadline = time.monotonic() + 10
    while True:
        pages = [client.recommend(user) for _ in range(4 * PROCESSES)]
        personal = all(Status.STORE_UNAVAILABLE not in page.status for page in pages)
        if personal or time.monotonic() > deadline:
            return pages[-1]
        time.sleep(0.05)


def call_for_a_while(client: Client, user: int) -> tuple[list[Page], list[float]]:
    """The pages that one caller gets during the trouble, and how long each took."""
    pages, seconds = [], []
    end = time.monotonic() + TROUBLE
    while (started := time.monotonic()) < end:
        pages.append(client.recommend(user))
        seconds.append(time.monotonic() - started)
    return pages, seconds


def assert_bounded(seconds: list[float]) -> None:
    """A call waits for the store when it is time for its process to try that again, and no other does."""
    slow = sum(each >= STORE_TIMEOUT for each in seconds)
    assert slow <= PROCESSES * (1 + sum(seconds) / RETRY_AFTER)
    # Otherwise each call would wait.
    assert len(seconds) > 2 * TROUBLE / STORE_TIMEOUT


def items_of(page: Page) -> list[int]:
    return [place.item_id for place in page.items]


def test_a_user_is_looked_up_in_redis(client: Client, on_redis: Server, server: Server) -> None:
    user = on_redis.known_users[-1]
    page = client.recommend(user)
    with Client(server.grpc_address, timeout=20.0) as on_lmdb:
        assert (items_of(page), page.status) == (items_of(on_lmdb.recommend(user)), Status.OK)
    assert items_of(page) != items_of(client.recommend())


@pytest.fixture(params=["killed", "stalled", "paused"])
def trouble(
    request: pytest.FixtureRequest, on_redis: Server, redis_server: RedisServer
) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """How the store gets into trouble and how it comes back."""

    def restart() -> None:
        redis_server.start()
        fill(redis_server, on_redis)

    def pause() -> None:
        with redis_server.client() as redis:
            redis.client_pause(3000, all=True)

    begin, end = {
        "killed": (redis_server.kill, restart),
        "stalled": (redis_server.stall, redis_server.resume),
        "paused": (pause, lambda: None),  # it ends by itself
    }[request.param]
    yield begin, end
    if request.param == "stalled":
        redis_server.resume()


def test_without_the_store_pages_come_in_time_and_later_they_are_personal_again(
    client: Client, on_redis: Server, trouble: tuple[Callable[[], None], Callable[[], None]]
) -> None:
    begin, end = trouble
    user = on_redis.known_users[-1]
    personal, unknown = client.recommend(user), client.recommend()

    begin()
    pages, seconds = call_for_a_while(client, user)
    for page in pages:
        assert page.status == Status.STORE_UNAVAILABLE
        assert items_of(page) == items_of(unknown)
    assert_bounded(seconds)

    end()
    page = become_personal(client, user)
    assert (items_of(page), page.status) == (items_of(personal), Status.OK)


def test_without_the_store_the_session_still_counts(
    client: Client, on_redis: Server, redis_server: RedisServer
) -> None:
    session = items_of(client.recommend())[:3]
    expected = client.recommend(session=session)
    redis_server.kill()
    page = client.recommend(on_redis.known_users[-1], session)
    redis_server.start()
    assert page.status == Status.STORE_UNAVAILABLE
    assert items_of(page) == items_of(expected)


def test_who_needs_no_store_is_told_of_no_trouble(client: Client, redis_server: RedisServer) -> None:
    redis_server.kill()
    page = client.recommend()
    redis_server.start()
    assert page.status == Status.ANONYMOUS_USER


def test_a_damaged_record_costs_its_own_user_the_history_and_nobody_else(
    client: Client, on_redis: Server, redis_server: RedisServer
) -> None:
    users = on_redis.known_users[-6:]
    damaged = users[2]
    before = client.recommend_many([Request(user) for user in users])
    with redis_server.client() as redis:
        key = f"tritonrec:user:{damaged}"
        record = redis.get(key)
        assert isinstance(record, bytes)
        redis.set(key, record[:-1] + bytes([record[-1] ^ 1]))
    after = client.recommend_many([Request(user) for user in users])

    nobody = items_of(client.recommend())
    for user, one, other in zip(users, before, after, strict=True):
        if user == damaged:
            assert (other.status, items_of(other)) == (Status.CORRUPT_RECORD, nobody)
        else:
            assert (
                (other.status, items_of(other)) == (one.status, items_of(one)) == (Status.OK, items_of(one))
            )
