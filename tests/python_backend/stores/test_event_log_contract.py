"""What every event log does, asserted on each of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import lmdb
import numpy as np
import pytest
from happenings import LIMIT, counters_of, event, history_of, logged, open_log, pairs_of, record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_server import RedisServer
from tritonrec_client.contract import Acknowledgement, Event

from python_backend.stores import EventLog, FeatureStore, UserEvent, UserRecord, open_event_log, open_store

RECORDED, KNOWN = Acknowledgement.RECORDED, Acknowledgement.KNOWN


@pytest.fixture
def log(store_url: str, store: FeatureStore) -> Iterator[EventLog]:
    with open_log(store_url) as opened:
        yield opened


@pytest.fixture
def store(store_url: str) -> Iterator[FeatureStore]:
    with open_store(store_url, timeout=5) as opened:
        opened.put_many({0: record()})  # a store that has been written to once
        opened.delete_many([0])
        yield opened


def test_an_event_is_logged_and_is_in_its_users_record(log: EventLog, store: FeatureStore) -> None:
    clicked = event(user_id=2**63 - 1, item_id=2**63 - 1, timestamp=2**40, release="0123456789ab")
    assert log.record([clicked]) == [RECORDED]
    assert logged(log) == [clicked]
    (found,) = store.get_many([2**63 - 1])
    assert isinstance(found, UserRecord)
    assert (pairs_of(found), found.counters) == ([(2**63 - 1, 2**40)], {"click": 1})


def test_where_an_item_stood_and_how_likely_that_was_is_logged_and_forgotten_with_it(log: EventLog) -> None:
    shown = [
        replace(event(kind=Event.VIEW, release="0123456789ab"), place=place, propensity=propensity)
        for place, propensity in ((0, 1.0), (9, 0.125), (3, None), (None, 0.5), (None, None))
    ]
    other = event(user_id=2)
    assert log.record([*shown, other]) == [RECORDED] * 6
    assert log.record(shown) == [KNOWN] * 5
    assert logged(log) == [*shown, other]
    assert log.forget([1]) == [True]
    assert logged(log) == [other]
    assert log.record(shown[:1]) == [RECORDED]  # not even the id is known any more


def test_clicks_and_purchases_are_history_and_everything_is_counted(
    log: EventLog, store: FeatureStore
) -> None:
    kinds = [Event.VIEW, Event.CLICK, Event.VIEW, Event.SKIP, Event.PURCHASE]
    log.record([event(item_id=item, kind=kind, timestamp=item) for item, kind in enumerate(kinds)])
    (found,) = store.get_many([1])
    assert isinstance(found, UserRecord)
    assert pairs_of(found) == [(1, 1), (4, 4)]
    assert found.counters == {"view": 2, "click": 1, "skip": 1, "purchase": 1}


def test_history_is_in_the_order_of_seconds_and_within_one_of_arrival(
    log: EventLog, store: FeatureStore
) -> None:
    store.put_many({1: record((7, 50), (8, 100))})
    log.record([event(item_id=10, timestamp=100), event(item_id=11, timestamp=40)])
    log.record([event(item_id=12, timestamp=100)])
    assert pairs_of(store.get_many([1])[0]) == [(11, 40), (7, 50), (8, 100), (10, 100), (12, 100)]


def test_a_record_keeps_what_else_is_in_it(log: EventLog, store: FeatureStore) -> None:
    store.put_many({1: record((7, 50), country="de", tags=["a", "b"])})
    log.record([event(item_id=10)])
    (found,) = store.get_many([1])
    assert isinstance(found, UserRecord)
    assert (dict(found.features), pairs_of(found)) == (
        {"country": "de", "tags": ["a", "b"]},
        [(7, 50), (10, 100)],
    )


def test_a_record_keeps_the_newest_and_the_log_keeps_all(log: EventLog, store: FeatureStore) -> None:
    store.put_many({1: record(*((item, item) for item in range(20)))})
    clicks = [event(item_id=item, timestamp=item) for item in range(18, 24)]
    log.record(clicks[:3])
    assert pairs_of(store.get_many([1])[0]) == [(item, item) for item in (16, 17, 18, 19, 20)]
    log.record(clicks[3:])
    log.record([event(item_id=3, timestamp=3)])
    assert pairs_of(store.get_many([1])[0]) == [(item, item) for item in (19, 20, 21, 22, 23)]
    assert logged(log)[:-1] == clicks


def test_an_event_that_is_sent_twice_is_written_once(log: EventLog, store: FeatureStore) -> None:
    sent = [event(item_id=1), event(item_id=2)]
    assert log.record(sent) == [RECORDED, RECORDED]
    before = store.get_many([1])
    assert log.record([sent[1]]) == [KNOWN]
    assert log.record([sent[1], event(user_id=5), sent[0]]) == [KNOWN, RECORDED, KNOWN]
    assert store.get_many([1]) == before
    assert logged(log)[:2] == sent
    assert len(logged(log)) == 3


def test_an_event_that_is_twice_in_a_batch_is_written_once(log: EventLog, store: FeatureStore) -> None:
    sent = event(item_id=1)
    assert log.record([sent, event(item_id=2), sent]) == [RECORDED, RECORDED, KNOWN]
    assert [each.item_id for each in logged(log)] == [1, 2]
    (found,) = store.get_many([1])
    assert isinstance(found, UserRecord)
    assert found.counters == {"click": 2}


def test_an_id_names_one_event_whoever_sends_it(log: EventLog, store: FeatureStore) -> None:
    assert log.record([event(user_id=1, event_id=9), event(user_id=2, event_id=9)]) == [RECORDED, KNOWN]
    assert log.record([event(user_id=3, event_id=9)]) == [KNOWN]
    assert store.get_many([2, 3]) == [None, None]


def test_an_item_twice_in_one_second_is_in_the_history_once(log: EventLog, store: FeatureStore) -> None:
    log.record([event(item_id=1), event(item_id=2), event(item_id=1, kind=Event.PURCHASE)])
    (found,) = store.get_many([1])
    assert isinstance(found, UserRecord)
    assert (pairs_of(found), found.counters) == ([(2, 100), (1, 100)], {"click": 2, "purchase": 1})


def test_no_events_are_no_answers(log: EventLog) -> None:
    assert log.record([]) == []
    assert log.read() == []
    assert log.forget([]) == []
    assert log.forgotten() == {}


def test_a_batch_is_written_whole_or_not_at_all(
    log: EventLog, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_many({1: record((7, 50))})
    log.record([event(item_id=8)])
    before, records = log.read(), store.get_many([1, 2])

    def fail(*_: object) -> bytes:
        raise ValueError("this record cannot be written")

    with monkeypatch.context() as patched:
        patched.setattr(f"{type(log).__module__}.encode", fail)
        with pytest.raises(ValueError, match="cannot be written"):
            log.record([event(user_id=1, event_id=2**64), event(user_id=2, event_id=2**65)])
    assert (log.read(), store.get_many([1, 2])) == (before, records)
    assert log.record([event(user_id=1, event_id=2**64), event(user_id=2, event_id=2**65)]) == [RECORDED] * 2


def test_the_log_is_read_from_any_position_in_portions(log: EventLog) -> None:
    events = [event(user_id=number % 3) for number in range(10)]
    assert log.end() == ""
    for begin in range(0, 10, 4):
        log.record(events[begin : begin + 4])
    everything = log.read()
    assert [each for _, each in everything] == events
    assert len({position for position, _ in everything}) == 10
    assert log.end() == everything[-1][0]
    for start in range(10):
        assert log.read(everything[start][0], 3) == everything[start + 1 : start + 4]
    assert log.read("", 4) == everything[:4]
    assert log.read(log.end()) == []


@pytest.mark.parametrize("position", ["-1", "x", "1-2-3", "9" * 40, "1.5", "¹"])
def test_what_is_no_position_is_refused(log: EventLog, position: str) -> None:
    with pytest.raises(ValueError, match="position is"):
        log.read(position)


def test_a_position_is_never_used_twice(log: EventLog) -> None:
    log.record([event(user_id=1), event(user_id=2)])
    newest = log.end()
    log.forget([2])
    assert log.end() == newest
    log.record([event(user_id=3)])
    assert [each.user_id for _, each in log.read(newest)] == [3]


def test_a_forgotten_user_is_gone_from_records_log_and_ids(log: EventLog, store: FeatureStore) -> None:
    store.put_many({1: record((7, 50), country="de"), 2: record((7, 50)), 3: record((8, 60))})
    first, other, second = event(user_id=1), event(user_id=2), event(user_id=1, item_id=11)
    log.record([first, other])
    log.record([second])
    before = store.get_many([2, 3])

    started = int(time.time())
    assert log.forget([1]) == [True]
    assert store.get_many([1, 2, 3]) == [None, *before]
    assert logged(log) == [other]
    forgotten = log.forgotten()
    assert list(forgotten) == [1]
    assert started <= forgotten[1] <= time.time()
    assert log.record([other]) == [KNOWN]
    assert log.record([second]) == [RECORDED]  # nothing remembers that there was such an event


def test_forgetting_says_whether_there_was_something(log: EventLog, store: FeatureStore) -> None:
    store.put_many({1: record((7, 50))})
    log.record([event(user_id=2)])
    assert log.forget([5, 1, 2, 1]) == [False, True, True, False]
    assert set(log.forgotten()) == {1, 2, 5}


def test_a_forgotten_user_may_start_anew(log: EventLog, store: FeatureStore) -> None:
    store.put_many({1: record((7, 50), country="de")})
    log.record([event(item_id=8)])
    log.forget([1])
    log.record([event(item_id=9, timestamp=300)])
    (found,) = store.get_many([1])
    assert isinstance(found, UserRecord)
    assert (pairs_of(found), dict(found.features), found.counters) == ([(9, 300)], {}, {"click": 1})
    assert set(log.forgotten()) == {1}
    assert log.forget([1]) == [True]
    assert log.read() == []


@pytest.mark.parametrize("user_id", [-1, 2**63])
def test_an_id_that_nobody_can_have_is_refused(log: EventLog, user_id: int) -> None:
    with pytest.raises(ValueError, match=str(user_id)):
        log.forget([1, user_id])
    with pytest.raises(ValueError, match=str(user_id)):
        log.reapply([user_id])
    with pytest.raises(ValueError, match=str(user_id)):
        event(user_id=user_id)
    assert log.forgotten() == {}


def damage(url: str, user_id: int, request: pytest.FixtureRequest) -> None:
    if url.startswith("lmdb"):
        with lmdb.open(url.removeprefix("lmdb://")) as opened, opened.begin(write=True) as transaction:
            transaction.put(user_id.to_bytes(8, "big"), b"not a record")
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        with server.client() as client:
            client.set(f"tritonrec:user:{user_id}", b"not a record")


def test_a_damaged_record_is_made_anew_from_the_log(
    log: EventLog, store: FeatureStore, store_url: str, request: pytest.FixtureRequest
) -> None:
    log.record([event(item_id=8, timestamp=50), event(item_id=9, kind=Event.VIEW)])
    log.close()
    store.close()
    damage(store_url, 1, request)
    assert log.record([event(item_id=10), event(user_id=2)]) == [RECORDED] * 2
    (found,) = store.get_many([1])
    assert isinstance(found, UserRecord)
    assert (pairs_of(found), found.counters) == ([(8, 50), (10, 100)], {"click": 2, "view": 1})


def test_a_record_that_somebody_deleted_is_made_anew_from_the_log(log: EventLog, store: FeatureStore) -> None:
    log.record([event(item_id=8, timestamp=50)])
    store.delete_many([1])
    log.record([event(item_id=10)])
    assert pairs_of(store.get_many([1])[0]) == [(8, 50), (10, 100)]


def test_applying_again_brings_back_what_a_build_overwrote(log: EventLog, store: FeatureStore) -> None:
    store.put_many({1: record((7, 50), country="de")})
    log.record([event(item_id=8), event(item_id=9, kind=Event.VIEW), event(item_id=10, timestamp=60)])
    (expected,) = store.get_many([1])
    store.put_many({1: record((7, 50), (8, 100), country="de")})
    for _ in range(2):
        log.reapply([1, 5])
        assert store.get_many([1, 5]) == [expected, None]
    log.reapply([1], anew=True)
    assert pairs_of(store.get_many([1])[0]) == [(10, 60), (8, 100)]
    log.forget([1])
    store.put_many({1: record((7, 50), country="de")})
    log.reapply([1], anew=True)
    assert store.get_many([1]) == [None]


def test_a_second_log_at_the_same_place_sees_what_the_first_one_writes(log: EventLog, store_url: str) -> None:
    with open_log(store_url) as other:
        sent = event()
        log.record([sent])
        assert other.read() == log.read()
        assert other.record([sent, event()]) == [KNOWN, RECORDED]
        assert other.end() == log.end()


def test_a_closed_log_opens_again_when_it_is_used(log: EventLog) -> None:
    log.record([event()])
    log.close()
    log.close()
    assert len(log.read()) == 1


kinds = st.sampled_from(list(Event))
small = st.integers(0, 4)
happenings = st.lists(
    st.builds(event, user_id=st.integers(1, 2), item_id=small, kind=kinds, timestamp=small, event_id=small),
    max_size=8,
)
pasts = st.lists(st.tuples(small, small), max_size=7, unique=True).map(
    lambda pairs: sorted(pairs, key=lambda pair: pair[1])
)


@given(batches=st.lists(happenings, max_size=4), past=pasts)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_and_log_agree_whatever_happens(
    log: EventLog, store: FeatureStore, batches: list[list[UserEvent]], past: list[tuple[int, int]]
) -> None:
    """After any batches, with ids that come again: the record is its past and the log, one by one."""
    log.forget([1, 2])
    start = log.end()
    store.put_many({1: record(*past, country="de")})
    first: dict[bytes, UserEvent] = {}
    for batch in batches:
        expected = []
        for each in batch:
            expected.append(KNOWN if each.event_id in first else RECORDED)
            first.setdefault(each.event_id, each)
        assert log.record(batch) == expected
    assert [each for _, each in log.read(start)] == list(first.values())
    records = store.get_many([1, 2])
    for user_id, before, found in zip((1, 2), (past, []), records, strict=True):
        mine = [each for each in first.values() if each.user_id == user_id]
        if user_id == 2 and not mine:
            assert found is None
            continue
        assert isinstance(found, UserRecord)
        assert pairs_of(found) == history_of(before, mine, LIMIT)
        assert found.counters == counters_of(mine)
    log.reapply([1, 2])
    assert store.get_many([1, 2]) == records


def test_a_limit_that_keeps_nothing_is_refused(store_url: str) -> None:
    with pytest.raises(ValueError, match="history_limit is 0; it must be at least 1"):
        open_event_log(store_url, history_limit=0)


def test_a_year_of_one_busy_user_is_forgotten_at_once(log: EventLog) -> None:
    rng = np.random.default_rng(1)
    log.record(
        [
            event(item_id=int(item), timestamp=number)
            for number, item in enumerate(rng.integers(99, size=3000))
        ]
    )
    assert log.forget([1]) == [True]
    assert log.read() == []
