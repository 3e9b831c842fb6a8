"""Many at once: writers, and somebody who is forgotten meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from happenings import event, logged, open_log, pairs_of
from tritonrec_client.contract import Acknowledgement

from python_backend.stores import FeatureStore, UserRecord, open_store

RECORDED = Acknowledgement.RECORDED


@pytest.fixture
def store(store_url: str) -> Iterator[FeatureStore]:
    with open_store(store_url, timeout=5) as opened:
        yield opened


def together(count: int, act: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            act(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_writers_at_once_lose_nothing_and_write_nothing_twice(store: FeatureStore, store_url: str) -> None:
    """Four of them, all of whom send the same retries for the same two users beside their own events."""
    shared = [event(user_id=number % 2, item_id=number, timestamp=number) for number in range(20)]
    own = [
        [event(user_id=number % 2, item_id=100 * writer + number, timestamp=number) for number in range(20)]
        for writer in range(1, 5)
    ]
    answers: list[Acknowledgement] = []

    def write(writer: int) -> None:
        with open_log(store_url, history_limit=1000) as log:
            for place in range(20):
                answers.extend(log.record([shared[place], own[writer][place]])[:1])

    together(4, write)
    with open_log(store_url) as log:
        written = logged(log)
    everything = [*shared, *(each for some in own for each in some)]
    assert answers.count(RECORDED) == len(shared)
    assert sorted(written, key=lambda each: each.event_id) == sorted(
        everything, key=lambda each: each.event_id
    )
    for user_id, found in zip((0, 1), store.get_many([0, 1]), strict=True):
        mine = [each for each in everything if each.user_id == user_id]
        assert isinstance(found, UserRecord)
        assert sorted(pairs_of(found)) == sorted((each.item_id, each.timestamp) for each in mine)
        assert found.counters == {"click": len(mine)}


def test_what_happens_while_a_user_is_forgotten_is_either_before_or_after(
    store: FeatureStore, store_url: str
) -> None:
    def act(number: int) -> None:
        with open_log(store_url, history_limit=1000) as log:
            for place in range(25):
                if number == 0:
                    log.forget([1])
                elif number == 1:
                    log.reapply([1])
                else:
                    log.record([event(item_id=number * 100 + place, timestamp=place)])

    together(4, act)
    with open_log(store_url) as log:
        left = logged(log)
    (found,) = store.get_many([1])
    pairs = [] if found is None else pairs_of(found)
    assert sorted(pairs) == sorted((each.item_id, each.timestamp) for each in left)
