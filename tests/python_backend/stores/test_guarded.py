from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest

from python_backend.stores import FeatureStore, Found, GuardedStore, StoreUnavailable, UserRecord


class Unsteady(FeatureStore):
    """A store that can be switched off and counts how often it is asked."""

    location = "unsteady"

    def __init__(self) -> None:
        self.down = False
        self.asked = 0
        self.now = 100.0

    def get_many(self, user_ids: Sequence[int]) -> list[Found]:
        self.asked += 1
        if self.down:
            raise StoreUnavailable("unsteady: down")
        return [None] * len(user_ids)

    def put_many(self, records: Mapping[int, UserRecord]) -> None:
        raise StoreUnavailable("unsteady: full")

    def delete_many(self, user_ids: Iterable[int]) -> None:
        raise StoreUnavailable("unsteady: full")

    def close(self) -> None:
        pass


@pytest.fixture
def inner() -> Unsteady:
    return Unsteady()


@pytest.fixture
def guarded(inner: Unsteady) -> GuardedStore:
    return GuardedStore(inner, retry_after=1.0, clock=lambda: inner.now)


def fail(store: FeatureStore) -> None:
    with pytest.raises(StoreUnavailable, match="unsteady: down"):
        store.get_many([1])


def test_a_store_that_works_is_always_asked(guarded: GuardedStore, inner: Unsteady) -> None:
    assert [guarded.get_many([1]) for _ in range(3)] == [[None]] * 3
    assert inner.asked == 3


def test_after_a_failure_the_store_is_left_alone(guarded: GuardedStore, inner: Unsteady) -> None:
    inner.down = True
    for _ in range(100):
        fail(guarded)
    inner.now += 0.99
    fail(guarded)
    assert inner.asked == 1


def test_then_one_probe_is_let_through_and_its_failure_starts_the_wait_again(
    guarded: GuardedStore, inner: Unsteady
) -> None:
    inner.down = True
    fail(guarded)
    inner.now += 1
    for _ in range(5):
        fail(guarded)
    assert inner.asked == 2
    inner.now += 0.5
    fail(guarded)
    assert inner.asked == 2


def test_a_probe_that_succeeds_opens_the_store_for_all(guarded: GuardedStore, inner: Unsteady) -> None:
    inner.down = True
    fail(guarded)
    inner.down = False
    inner.now += 1
    assert [guarded.get_many([1]) for _ in range(3)] == [[None]] * 3
    assert inner.asked == 4


def test_while_a_probe_waits_for_the_store_nobody_else_does() -> None:
    refused: list[bool] = []

    class AskedAgain(Unsteady):
        def get_many(self, user_ids: Sequence[int]) -> list[Found]:
            if not self.down:
                with pytest.raises(StoreUnavailable, match="not asked again yet"):
                    guarded.get_many([2])
                refused.append(True)
            return super().get_many(user_ids)

    asked_again = AskedAgain()
    asked_again.down = True
    guarded = GuardedStore(asked_again, retry_after=1.0, clock=lambda: asked_again.now)
    fail(guarded)
    asked_again.down = False
    asked_again.now += 1
    assert guarded.get_many([1]) == [None]
    assert refused == [True]


def test_the_wait_begins_when_the_failure_is_known(guarded: GuardedStore, inner: Unsteady) -> None:
    """A look-up that waited for its timeout has spent that time already."""

    class Slow(Unsteady):
        def get_many(self, user_ids: Sequence[int]) -> list[Found]:
            self.now += 10
            return super().get_many(user_ids)

    slow = Slow()
    slow.down = True
    guarded = GuardedStore(slow, retry_after=1.0, clock=lambda: slow.now)
    fail(guarded)
    fail(guarded)
    assert slow.asked == 1


def test_writes_are_not_guarded(guarded: GuardedStore, inner: Unsteady) -> None:
    inner.down = True
    fail(guarded)
    with pytest.raises(StoreUnavailable, match="full"):
        guarded.put_many({})
    with pytest.raises(StoreUnavailable, match="full"):
        guarded.delete_many([])


def test_a_negative_wait_is_refused(inner: Unsteady) -> None:
    with pytest.raises(ValueError, match="retry_after is -1"):
        GuardedStore(inner, retry_after=-1)
