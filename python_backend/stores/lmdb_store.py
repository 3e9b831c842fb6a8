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


class LmdbFolder:
    """An LMDB folder as a URL names it; what goes wrong with it is StoreUnavailable."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.location = f"lmdb://{path}"
        self._readonly = readonly
        self._path = path
        self._environment = Environment.at(path)

    @classmethod
    def from_url(cls, url: str) -> LmdbFolder:
        """The folder of ``lmdb:///absolute/path`` or ``lmdb://relative/path``, both with ``?readonly=1``.

        Raises ValueError on another URL.
        """
        path, _, query = url.partition("://")[2].partition("?")
        options = parse_qs(query, keep_blank_values=True)
        readonly = options.pop("readonly", ["0"])[-1]
        if not path:
            raise ValueError("store URL: there is no path; expected lmdb:///absolute/path")
        if options or readonly not in ("0", "1"):
            raise ValueError(f"store URL: found ?{query}; allowed is ?readonly=0 or ?readonly=1")
        return cls(Path(path), readonly=readonly == "1")

    @property
    def exists(self) -> bool:
        """Whether anybody has written to the folder yet."""
        return (self._path / "data.mdb").is_file()

    def read(self, look: Callable[[Transaction], Result]) -> Result:
        """See `Environment.read`. Raises StoreUnavailable."""
        return self._reached(lambda: self._environment.read(look))

    def write(self, change: Callable[[Transaction], Result]) -> Result:
        """See `Environment.write`. Raises StoreUnavailable, and PermissionError with ``?readonly=1``."""
        if self._readonly:
            raise PermissionError(f"{self.location} was opened with ?readonly=1")
        return self._reached(lambda: self._environment.write(change))

    def close(self) -> None:
        self._environment.close()

    def _reached(self, act: Callable[[], Result]) -> Result:
        try:
            return act()
        except (lmdb.Error, OSError) as error:
            raise StoreUnavailable(f"{self.location}: {error}") from error


class LmdbStore(FeatureStore):
    """Users' records in an LMDB folder.

    Reading a folder that is not there raises StoreUnavailable; the first write makes it. A folder that
    is replaced is opened again at its next use. A ``readonly`` store refuses writes with PermissionError.
    """

    def __init__(self, folder: LmdbFolder) -> None:
        self.location = folder.location
        self._folder = folder

    @classmethod
    def from_url(cls, url: str) -> LmdbStore:
        """The store of a URL; see `LmdbFolder.from_url`."""
        return cls(LmdbFolder.from_url(url))

    def get_many(self, user_ids: Sequence[int]) -> list[Found]:
        keys = [user_key(user_id) for user_id in user_ids]
        found = self._folder.read(lambda transaction: [transaction.get(key) for key in keys])
        return [decode_or_error(data) for data in found]

    def put_many(self, records: Mapping[int, UserRecord]) -> None:
        pairs = [(user_key(user_id), encode(record)) for user_id, record in records.items()]

        def put(transaction: Transaction) -> None:
            for key, data in pairs:
                transaction.put(key, data)

        self._folder.write(put)

    def delete_many(self, user_ids: Iterable[int]) -> None:
        keys = [user_key(user_id) for user_id in user_ids]

        def delete(transaction: Transaction) -> None:
            for key in keys:
                transaction.delete(key)

        self._folder.write(delete)

    def close(self) -> None:
        self._folder.close()


def user_key(user_id: int) -> bytes:
    """8 bytes, big-endian, so that LMDB keeps users in the order of their ids."""
    return checked(user_id).to_bytes(8, "big")
