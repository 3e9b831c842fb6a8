from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from happenings import event, pairs_of
from redis_server import DURABLE, RedisServer
from tritonrec_client.contract import Acknowledgement

from python_backend.stores import StoreUnavailable, open_event_log, open_store
from python_backend.stores.redis_events import ATTEMPTS, RedisEventLog

RECORDED, KNOWN = Acknowledgement.RECORDED, Acknowledgement.KNOWN


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, settings=DURABLE)
    server.start()
    yield server
    server.kill()


def test_a_server_that_keeps_what_it_acknowledges_is_written_to(durable: RedisServer) -> None:
    with open_event_log(durable.url) as log:
        sent = event()
        assert log.record([sent]) == [RECORDED]
        durable.kill()
        with pytest.raises(StoreUnavailable):
            log.record([event()])
        durable.start()
        assert [each for _, each in log.read()] == [sent]
        assert log.record([sent]) == [KNOWN]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"appendonly": "no"}, "appendonly is no"),
        ({"appendfsync": "everysec"}, "appendfsync is everysec"),
        ({"no-appendfsync-on-rewrite": "yes"}, "no-appendfsync-on-rewrite is yes"),
    ],
)
def test_a_server_that_may_lose_what_it_acknowledges_is_refused_with_what_to_set(
    tmp_path: Path, settings: dict[str, str], found: str
) -> None:
    server = RedisServer(tmp_path, settings=DURABLE | settings)
    server.start()
    try:
        with open_event_log(server.url) as log:
            for write in (lambda: log.record([event()]), lambda: log.forget([1]), lambda: log.reapply([1])):
                with pytest.raises(StoreUnavailable, match=found) as refused:
                    write()
                assert "set appendonly yes, appendfsync always" in str(refused.value)
                assert "require_durable" in str(refused.value)
            assert (log.read(), log.end(), log.forgotten()) == ([], "", {})
        with open_event_log(server.url, require_durable=False) as log:
            assert log.record([event()]) == [RECORDED]
    finally:
        server.kill()


def test_settings_that_are_hidden_are_refused(durable: RedisServer) -> None:
    with durable.client() as client:
        commands = ["+@all", "-config"]
        client.acl_setuser("shop", enabled=True, passwords=["+secret"], keys=["*"], commands=commands)
    url = durable.url.replace("127.0.0.1", "shop:secret@127.0.0.1")
    with open_event_log(url) as log, pytest.raises(StoreUnavailable, match="cannot see") as refused:
        log.record([event()])
    assert "secret" not in str(refused.value)
    with open_event_log(url, require_durable=False) as log:
        assert log.record([event()]) == [RECORDED]


def test_a_server_that_comes_back_with_other_settings_is_noticed(durable: RedisServer) -> None:
    with open_event_log(durable.url) as log:
        log.record([event()])
        durable.kill()
        durable.settings["appendfsync"] = "no"
        durable.start()
        with pytest.raises(StoreUnavailable, match="appendfsync is no"):
            log.record([event()])
        durable.kill()
        durable.settings |= DURABLE
        durable.start()
        assert log.record([event()]) == [RECORDED]


def test_settings_are_looked_at_once_per_connection(durable: RedisServer) -> None:
    with open_event_log(durable.url) as log, durable.client() as client:
        for _ in range(20):
            log.record([event()])
        commands = client.info("commandstats")
    assert commands["cmdstat_config|get"]["calls"] == 1
    assert commands["cmdstat_evalsha"]["calls"] <= 21


def test_a_slow_server_costs_one_timeout_and_the_event_may_be_sent_again(redis_server: RedisServer) -> None:
    with open_event_log(redis_server.url, timeout=0.3, require_durable=False) as log:
        log.record([event()])
        sent = event()
        redis_server.stall()
        try:
            start = time.monotonic()
            with pytest.raises(StoreUnavailable):
                log.record([sent])
            assert 0.2 < time.monotonic() - start < 0.6
        finally:
            redis_server.resume()
        answers = [log.record([sent]), log.record([sent])]
        assert answers in ([[RECORDED], [KNOWN]], [[KNOWN], [KNOWN]])
        assert len(log.read()) == 2


def test_prefixes_keep_data_sets_apart(redis_server: RedisServer) -> None:
    urls = (redis_server.url, f"{redis_server.url}?prefix=shop:")
    logs = [open_event_log(url, require_durable=False) for url in urls]
    sent = [event(event_id=1), event(event_id=1)]
    for log, one in zip(logs, sent, strict=True):
        assert log.record([one]) == [RECORDED]
        log.forget([5])
    with redis_server.client() as client:
        keys = {key.decode() for key in client.scan_iter()}
    names = {"log", "log:ids", "log:user:1", "log:forgotten"}
    ours = {"tritonrec:user:1", *(f"tritonrec:{name}" for name in names)}
    assert keys == ours | {"shop:1", *(f"shop:{name}" for name in names)}


def test_what_another_program_put_into_our_keys_stops_a_batch_before_it_writes(
    redis_server: RedisServer,
) -> None:
    with open_event_log(redis_server.url, require_durable=False) as log, redis_server.client() as client:
        client.set("tritonrec:log:user:2", "a string")
        with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
            log.record([event(user_id=1), event(user_id=2)])
        with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
            log.forget([1, 2])
        assert client.keys() == [b"tritonrec:log:user:2"]


def test_users_whom_others_keep_changing_are_given_up_after_some_attempts(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        open_event_log(redis_server.url, require_durable=False) as log,
        open_event_log(redis_server.url, require_durable=False) as other,
        open_store(redis_server.url, timeout=5) as store,
    ):
        assert isinstance(log, RedisEventLog)
        write, disturbances = log._try_to_write, [ATTEMPTS]

        def disturbed(*arguments: object) -> bool:
            if disturbances[0]:
                disturbances[0] -= 1
                other.record([event(item_id=100 + disturbances[0])])
            return write(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(log, "_try_to_write", disturbed)
        with pytest.raises(StoreUnavailable, match=f"changed the same users {ATTEMPTS} times in a row"):
            log.record([event(item_id=1)])
        disturbances[0] = ATTEMPTS - 1
        assert log.record([event(item_id=2)]) == [RECORDED]
        assert len(log.read()) == 2 * ATTEMPTS
        assert len(pairs_of(store.get_many([1])[0])) == 2 * ATTEMPTS - (ATTEMPTS - 1)
