"""What every feature store does, asserted on each of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import lmdb
import numpy as np
import pytest
from redis_server import RedisServer

from python_backend.stores import CorruptRecord, FeatureStore, UserRecord, open_store


@pytest.fixture
def store(store_url: str) -> Iterator[FeatureStore]:
    with open_store(store_url, timeout=5) as opened:
        opened.put_many({0: record(1)})  # a store that has been written to once
        opened.delete_many([0])
        yield opened


def record(*items: int, **features: object) -> UserRecord:
    return UserRecord(np.array(items, np.int64), np.arange(len(items), dtype=np.int64), features)


def test_records_come_back_in_the_order_that_was_asked_for(store: FeatureStore) -> None:
    written = {1: record(5, 6, age=31.0, tags=["a"]), 2: record(7), 2**63 - 1: record()}
    store.put_many(written)
    assert store.get_many([2, 2**63 - 1, 1]) == [written[2], written[2**63 - 1], written[1]]


def test_an_unknown_user_is_none(store: FeatureStore) -> None:
    store.put_many({1: record(5)})
    assert store.get_many([3, 1, 0]) == [None, record(5), None]


def test_a_user_asked_for_twice_is_answered_twice(store: FeatureStore) -> None:
    store.put_many({1: record(5)})
    assert store.get_many([1, 1]) == [record(5), record(5)]


def test_nobody_asked_for_is_nothing_found(store: FeatureStore) -> None:
    assert store.get_many([]) == []
    store.put_many({})
    store.delete_many([])


def test_writing_replaces_what_was_there(store: FeatureStore) -> None:
    store.put_many({1: record(5, age=3.0)})
    store.put_many({1: record(6)})
    assert store.get_many([1]) == [record(6)]


def test_deleted_users_are_unknown_and_deleting_unknown_ones_is_no_error(store: FeatureStore) -> None:
    store.put_many({1: record(5), 2: record(6)})
    store.delete_many([1, 9])
    assert store.get_many([1, 2]) == [None, record(6)]


def test_many_users_fit_into_one_call(store: FeatureStore) -> None:
    written = {user_id: record(*range(user_id % 50)) for user_id in range(1000)}
    store.put_many(written)
    assert store.get_many(range(1000)) == list(written.values())
    store.delete_many(range(1000))
    assert store.get_many(range(1000)) == [None] * 1000


@pytest.mark.parametrize("user_id", [-1, 2**63])
def test_an_id_that_nobody_can_have_is_refused(store: FeatureStore, user_id: int) -> None:
    with pytest.raises(ValueError, match=str(user_id)):
        store.get_many([1, user_id])
    with pytest.raises(ValueError, match=str(user_id)):
        store.put_many({user_id: record()})
    with pytest.raises(ValueError, match=str(user_id)):
        store.delete_many([user_id])


def test_a_closed_store_opens_again_when_it_is_used(store: FeatureStore) -> None:
    store.put_many({1: record(5)})
    store.close()
    store.close()
    assert store.get_many([1]) == [record(5)]


def test_a_second_store_at_the_same_place_sees_what_the_first_one_writes(
    store: FeatureStore, store_url: str
) -> None:
    with open_store(store_url, timeout=5) as other:
        assert other.get_many([1]) == [None]
        store.put_many({1: record(5)})
        assert other.get_many([1]) == [record(5)]


def test_threads_may_share_a_store(store: FeatureStore) -> None:
    store.put_many({user_id: record(user_id) for user_id in range(10)})
    wrong = []

    def read(user_id: int) -> None:
        for _ in range(50):
            if store.get_many([user_id]) != [record(user_id)]:
                wrong.append(user_id)
            store.put_many({user_id + 100: record(user_id)})

    threads = [threading.Thread(target=read, args=(user_id,)) for user_id in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_corrupt_record_is_a_value_for_its_user_alone(
    store: FeatureStore, store_url: str, request: pytest.FixtureRequest
) -> None:
    store.put_many({1: record(5), 2: record(6), 3: record(7)})
    if store_url.startswith("lmdb"):
        store.close()
        with lmdb.open(store_url.removeprefix("lmdb://")) as opened, opened.begin(write=True) as transaction:
            transaction.put((2).to_bytes(8, "big"), b"not a record")
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        with server.client() as client:
            client.set("tritonrec:user:2", b"not a record")
    first, second, third = store.get_many([1, 2, 3])
    assert (first, third) == (record(5), record(7))
    assert isinstance(second, CorruptRecord)
    store.put_many({2: record(6)})
    assert store.get_many([2]) == [record(6)]
