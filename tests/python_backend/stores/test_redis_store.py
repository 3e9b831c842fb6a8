from __future__ import annotations

import socket
import time
from pathlib import Path

import numpy as np
import pytest
import redis
from redis_server import RedisServer

from python_backend.stores import StoreUnavailable, UserRecord, open_store

PASSWORD = "p%40ss-w0rd"  # percent-encoded in the URL


def record(*items: int) -> UserRecord:
    return UserRecord(np.array(items, np.int64), np.zeros(len(items), np.int64))


def commands(client: redis.Redis, name: str) -> int:
    return int(client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"])


def test_a_batch_is_one_round_trip(redis_server: RedisServer) -> None:
    store = open_store(redis_server.url, timeout=5)
    store.put_many({user_id: record(user_id) for user_id in range(100)})
    with redis_server.client() as client:
        client.config_resetstat()
        store.get_many(range(100))
        assert commands(client, "mget") == 1
        assert commands(client, "get") == 0


def test_prefixes_keep_data_sets_apart(redis_server: RedisServer) -> None:
    one, other = (open_store(f"{redis_server.url}?prefix={name}:", timeout=5) for name in ("a", "b"))
    one.put_many({1: record(5)})
    assert other.get_many([1]) == [None]
    with redis_server.client() as client:
        assert client.keys() == [b"a:1"]
    open_store(redis_server.url, timeout=5).put_many({1: record(5)})
    with redis_server.client() as client:
        assert client.exists("tritonrec:user:1")


def test_databases_are_kept_apart(redis_server: RedisServer) -> None:
    open_store(redis_server.url, timeout=5).put_many({1: record(5)})
    assert open_store(redis_server.url[:-1] + "1", timeout=5).get_many([1]) == [None]


def test_a_slow_server_costs_one_timeout(redis_server: RedisServer) -> None:
    store = open_store(redis_server.url, timeout=0.3)
    assert store.get_many([1]) == [None]
    redis_server.stall()
    try:
        for _ in range(2):  # once on an open connection, once while connecting
            start = time.monotonic()
            with pytest.raises(StoreUnavailable):
                store.get_many([1])
            assert 0.2 < time.monotonic() - start < 0.6
    finally:
        redis_server.resume()
    assert store.get_many([1]) == [None]


def test_a_server_that_does_not_even_accept_costs_one_timeout() -> None:
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for waiting in (first, second):  # the queue is full now
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            open_store(f"redis://127.0.0.1:{listening.getsockname()[1]}", timeout=0.3).get_many([1])
        assert 0.2 < time.monotonic() - start < 0.6


def test_no_server_is_unavailable_at_once_and_found_when_it_is_there(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url, timeout=5)
    store.put_many({1: record(5)})
    own_redis.kill()
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"redis://127.0.0.1:{own_redis.port}/0"):
        store.get_many([1])
    with pytest.raises(StoreUnavailable):
        store.put_many({1: record(5)})
    with pytest.raises(StoreUnavailable):
        store.delete_many([1])
    assert time.monotonic() - start < 1
    own_redis.start()
    assert store.get_many([1]) == [None]


def test_a_restart_between_two_requests_costs_no_request(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url, timeout=5)
    assert store.get_many([1]) == [None]
    own_redis.kill()
    own_redis.start()
    assert store.get_many([1]) == [None]


def test_a_password_is_used_and_never_shown(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, password="p@ss-w0rd")
    server.start()
    try:
        right = open_store(f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0", timeout=5)
        assert right.get_many([1]) == [None]
        with pytest.raises(StoreUnavailable) as refused:
            open_store(f"redis://:wr0ng-secret@127.0.0.1:{server.port}/0", timeout=5).get_many([1])
        with pytest.raises(StoreUnavailable) as unnamed:
            open_store(server.url, timeout=5).get_many([1])
    finally:
        server.kill()
    with pytest.raises(StoreUnavailable) as down:
        right.get_many([1])
    for shown in (refused, unnamed, down):
        assert "ss-w0rd" not in str(shown.value)
        assert "secret" not in str(shown.value)
    assert "w0rd" not in right.location


def test_tls_is_spoken_and_certificates_are_checked(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, tls=True)
    server.start()
    try:
        url = f"rediss://127.0.0.1:{server.port}/0"
        store = open_store(f"{url}?ssl_ca_certs={server.certificate}", timeout=5)
        store.put_many({1: record(5)})
        assert store.get_many([1]) == [record(5)]
        with pytest.raises(StoreUnavailable, match="certificate"):
            open_store(url, timeout=5).get_many([1])
    finally:
        server.kill()


def test_a_server_without_tls_is_unavailable_over_rediss(redis_server: RedisServer) -> None:
    store = open_store(redis_server.url.replace("redis://", "rediss://"), timeout=0.2)
    with pytest.raises(StoreUnavailable):
        store.get_many([1])


def test_a_key_that_holds_something_else_is_nobody(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.rpush("tritonrec:user:1", "a list")
    assert open_store(redis_server.url, timeout=5).get_many([1]) == [None]
