"""The embedded store, LMDB: a folder of this machine, read by any number of processes, no server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs

import lmdb

from python_backend.stores.contract import FeatureStore, Found, StoreUnavailable, checked
from python_backend.stores.lmdb_environment import Environment, Transaction
from python_backend.stores.records import UserRecord, decode_or_error, encode

Result = TypeVar("Result")


class LmdbStore(FeatureStore):
    """Users' records in an LMDB folder.

    Reading a folder that is not there raises StoreUnavailable; the first write makes it. A folder that
    is replaced is opened again at its next use. A `readonly` store refuses writes with PermissionError.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.location = f"lmdb://{path}"
        self._readonly = readonly
        self._environment = Environment.at(path)

    @classmethod
    def from_url(cls, url: str, timeout: float) -> LmdbStore:
        """The store of ``lmdb:///absolute/path`` or ``lmdb://relative/path``, both with ``?readonly=1``.

        `timeout` is not used: a local file either answers or fails. Raises ValueError on another URL.
        """
        path, _, query = url.partition("://")[2].partition("?")
        options = parse_qs(query, keep_blank_values=True)
        readonly = options.pop("readonly", ["0"])[-1]
        if not path:
            raise ValueError("store URL: there is no path; expected lmdb:///absolute/path")
        if options or readonly not in ("0", "1"):
            raise ValueError(f"store URL: found ?{query}; allowed is ?readonly=0 or ?readonly=1")
        return cls(Path(path), readonly=readonly == "1")

    def get_many(self, user_ids: Sequence[int]) -> list[Found]:
        keys = [_key(user_id) for user_id in user_ids]
        return [decode_or_error(data) for data in self._reached(lambda: self._environment.read(keys))]

    def put_many(self, records: Mapping[int, UserRecord]) -> None:
        pairs = [(_key(user_id), encode(record)) for user_id, record in records.items()]

        def put(transaction: Transaction) -> None:
            for key, data in pairs:
                transaction.put(key, data)

        self._write(put)

    def delete_many(self, user_ids: Iterable[int]) -> None:
        keys = [_key(user_id) for user_id in user_ids]

        def delete(transaction: Transaction) -> None:
            for key in keys:
                transaction.delete(key)

        self._write(delete)

    def close(self) -> None:
        self._environment.close()

    def _write(self, change: Callable[[Transaction], None]) -> None:
        if self._readonly:
            raise PermissionError(f"{self.location} was opened with ?readonly=1")
        self._reached(lambda: self._environment.write(change))

    def _reached(self, act: Callable[[], Result]) -> Result:
        try:
            return act()
        except (lmdb.Error, OSError) as error:
            raise StoreUnavailable(f"{self.location}: {error}") from error


def _key(user_id: int) -> bytes:
    """8 bytes, big-endian, so that LMDB keeps users in the order of their ids."""
    return checked(user_id).to_bytes(8, "big")
