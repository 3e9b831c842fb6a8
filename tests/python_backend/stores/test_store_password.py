"""A Redis password that stands in no URL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_server import RedisServer

from python_backend.stores import StoreUnavailable, open_store
from python_backend.stores.redis_store import PASSWORD


@pytest.fixture
def guarded_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, password="let me in: 100%/@")
    server.start()
    yield server
    server.kill()


def test_the_environment_has_the_password_of_a_url_without_one(
    guarded_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(guarded_redis.url, timeout=5) as store, pytest.raises(StoreUnavailable, match="Auth"):
        store.get_many([1])
    monkeypatch.setenv(PASSWORD, "let me in: 100%/@")

    with open_store(guarded_redis.url, timeout=5) as store:
        assert store.get_many([1]) == [None]


def test_a_urls_own_password_comes_first(guarded_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "another one")
    url = guarded_redis.url.replace("//", "//:let%20me%20in%3A%20100%25%2F%40@")

    with open_store(url, timeout=5) as store:
        assert store.get_many([1]) == [None]
