"""Feature stores: users' records by wire id, behind one contract and chosen by URL."""

from __future__ import annotations

from python_backend.stores.contract import FeatureStore, Found, StoreUnavailable
from python_backend.stores.events import EventLog, UserEvent
from python_backend.stores.guarded import GuardedStore
from python_backend.stores.records import CorruptRecord, UserRecord, cut_record

__all__ = [
    "CorruptRecord",
    "EventLog",
    "FeatureStore",
    "Found",
    "GuardedStore",
    "StoreUnavailable",
    "UserEvent",
    "UserRecord",
    "cut_record",
    "open_event_log",
    "open_store",
]

SCHEMES = ("lmdb", "redis", "rediss")


def open_store(url: str, *, timeout: float = 0.05) -> FeatureStore:
    """The store that `url` names: ``lmdb:///absolute/path``, ``redis://host:6379/0`` or ``rediss://…``.

    Nothing is opened yet, so the store need not be there. `timeout`, in seconds, bounds every wait for a
    server. Raises ValueError on a URL or a timeout that cannot be meant, never quoting a password.
    """
    # Imported here so that a process loads only the library of the store that it uses.
    if _scheme(url, timeout) == "lmdb":
        from python_backend.stores.lmdb_store import LmdbStore

        return LmdbStore.from_url(url)
    from python_backend.stores.redis_store import RedisStore

    return RedisStore.from_url(url, timeout)


def open_event_log(
    url: str, *, timeout: float = 1.0, require_durable: bool = True, history_limit: int = 4096
) -> EventLog:
    """The event log of the store that `url` names; see `open_store`.

    `timeout`, in seconds, bounds every wait for a server. With `require_durable`, writing to a Redis that
    answers before its disk has everything raises StoreUnavailable. A record keeps the `history_limit` newest
    events of its user; the log keeps all. Raises ValueError as `open_store` does, and on a limit below 1.
    """
    if history_limit < 1:
        raise ValueError(f"history_limit is {history_limit}; it must be at least 1")
    if _scheme(url, timeout) == "lmdb":
        from python_backend.stores.lmdb_events import LmdbEventLog
        from python_backend.stores.lmdb_store import LmdbFolder

        return LmdbEventLog(LmdbFolder.from_url(url), history_limit)
    from python_backend.stores.redis_events import RedisEventLog

    return RedisEventLog.from_url(url, timeout, history_limit, require_durable=require_durable)


def _scheme(url: str, timeout: float) -> str:
    if not timeout > 0:
        raise ValueError(f"the store's timeout is {timeout} s; it must be above 0")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        found = f"scheme {scheme!r}" if separator else "no scheme"
        raise ValueError(f"store URL: found {found}; allowed are lmdb://, redis:// and rediss://")
    return scheme
