"""A store that is filled while it is written to loses nothing once the log has been replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_server import RedisServer
from tritonrec_client.contract import Event

from python_backend.stores import EventLog, FeatureStore, UserEvent, UserRecord, open_event_log, open_store
from tools.data.replay import replay

USERS = 3
PAST = [(100, 1), (101, 3)]
"""What the build's data say of every user: pairs of item and second."""


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["lmdb", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of each kind in turn."""
    if request.param == "lmdb":
        return f"lmdb://{tmp_path}"
    server: RedisServer = request.getfixturevalue("redis_server")
    with server.client() as client:
        client.flushall()
    return server.url


@pytest.fixture
def store(url: str) -> Iterator[FeatureStore]:
    with open_store(url, timeout=5) as store:
        yield store


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    with open_event_log(url, timeout=5, require_durable=False) as log:
        yield log


def click(user_id: int, number: int, kind: Event = Event.CLICK) -> UserEvent:
    return UserEvent(user_id, number, kind, number % 5, number.to_bytes(16, "big"))


def fill(store: FeatureStore, user_id: int) -> None:
    items, timestamps = zip(*PAST, strict=True)
    store.put_many({user_id: UserRecord(np.array(items), np.array(timestamps), {"country": "de"})})


def pairs_of(record: object) -> list[tuple[int, int]]:
    assert isinstance(record, UserRecord)
    return list(zip(record.items.tolist(), record.timestamps.tolist(), strict=True))


steps = st.lists(
    st.tuples(st.sampled_from(["record", "record", "view", "fill", "replay"]), st.integers(0, USERS - 1)),
    max_size=12,
)


@given(before=steps, during=steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_lost_or_doubled_whatever_happens_while_a_store_is_filled(
    store: FeatureStore, log: EventLog, before: list[tuple[str, int]], during: list[tuple[str, int]]
) -> None:
    log.forget(range(USERS))
    sent: list[UserEvent] = []

    def take(steps: list[tuple[str, int]]) -> None:
        for step, user_id in steps:
            if step == "fill":
                fill(store, user_id)
            elif step == "replay":
                replay(log)
            else:
                sent.append(click(user_id, len(sent), Event.VIEW if step == "view" else Event.CLICK))
                log.record(sent[-1:])

    take(before)
    everything = len(before) % 2 == 0
    start = "" if everything else log.end()
    position = 0 if everything else len(sent)
    take(during)
    for user_id in range(USERS):
        fill(store, user_id)
    replay(log, start)

    records = store.get_many(range(USERS))
    expected_users = {event.user_id for event in sent[position:]}
    for user_id in expected_users:
        mine = [event for event in sent if event.user_id == user_id]
        record = records[user_id]
        clicks = [(event.item_id, event.timestamp) for event in mine if event.event == Event.CLICK]
        assert pairs_of(record) == sorted([*PAST, *clicks], key=lambda pair: pair[1])
        assert isinstance(record, UserRecord)
        assert record.counters == Counter(event.event.name.lower() for event in mine)
        assert record.features == {"country": "de"}
    replay(log, start)
    assert store.get_many(range(USERS)) == records


def test_who_is_forgotten_while_the_store_is_filled_stays_forgotten(
    store: FeatureStore, log: EventLog
) -> None:
    log.forget([13])
    log.record([click(11, 1), click(12, 2)])
    start, forgotten = log.end(), log.forgotten()
    log.forget([11, 12])
    log.record([click(12, 4)])
    for user_id in (11, 12, 13):
        fill(store, user_id)
    assert replay(log, start, forgotten=forgotten) == 2
    first, second, third = store.get_many([11, 12, 13])
    assert first is None
    assert pairs_of(second) == [(4, 4)]
    assert pairs_of(third) == PAST  # forgotten before: the build knew, and may have had a reason


def test_a_log_in_which_nothing_happened_changes_nothing(store: FeatureStore, log: EventLog) -> None:
    log.record([click(5, 50)])
    before = store.get_many([5])
    assert replay(log, log.end()) == 0
    assert store.get_many([5]) == before
