"""A circuit breaker: a store that fails is left alone for a while.

Without it a dead or slow store would cost every request its timeout, and the requests that queue behind
would miss their deadlines. With it, it costs one timeout per `retry_after`. The pattern is from M. Nygard,
"Release It!", 2007.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from python_backend.stores.contract import FeatureStore, Found, StoreUnavailable
from python_backend.stores.records import UserRecord


class GuardedStore(FeatureStore):
    """`store`, whose look-ups are refused for `retry_after` seconds after one has failed.

    Then one look-up is let through as a probe: where it succeeds, all are again. Writes are not guarded.
    `clock` gives seconds that only grow.
    """

    def __init__(
        self, store: FeatureStore, *, retry_after: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if retry_after < 0:
            raise ValueError(f"retry_after is {retry_after} s; it must be at least 0")
        self.location = store.location
        self._store = store
        self._retry_after = retry_after
        self._clock = clock
        self._lock = threading.Lock()
        self._refuse_until: float | None = None
        self._failure = ""

    def get_many(self, user_ids: Sequence[int]) -> list[Found]:
        with self._lock:
            if self._refuse_until is not None:
                now = self._clock()
                if now < self._refuse_until:
                    raise StoreUnavailable(f"{self._failure} (not asked again yet)")
                self._refuse_until = now + self._retry_after  # this call is the probe, others wait for it
        try:
            found = self._store.get_many(user_ids)
        except StoreUnavailable as error:
            with self._lock:
                self._refuse_until = self._clock() + self._retry_after
                self._failure = str(error)
            raise
        self._refuse_until = None
        return found

    def put_many(self, records: Mapping[int, UserRecord]) -> None:
        self._store.put_many(records)

    def delete_many(self, user_ids: Iterable[int]) -> None:
        self._store.delete_many(user_ids)

    def close(self) -> None:
        self._store.close()
