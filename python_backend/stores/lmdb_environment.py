"""The one LMDB environment of a folder in this process.

LMDB forbids opening a folder twice in a process, while two stages, or a build and a stage, may well use
one store there; so stores share an `Environment`, and it absorbs what LMDB leaves to its callers: growth
of the map (by this process or another), reader slots of processes that died, and a folder that was
removed or replaced under an open map.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from weakref import WeakValueDictionary

import lmdb

FIRST_MAP_BYTES = 64 * 2**20
"""The map's size in the beginning; it doubles when it is full."""

MOST_READERS = 1024
"""Threads and processes that may read at the same time."""

Transaction = Any
Result = TypeVar("Result")


class Environment:
    """An LMDB folder that is opened when used; for reading only, until something is written."""

    _alive: ClassVar[WeakValueDictionary[Path, Environment]] = WeakValueDictionary()
    _alive_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = str(path / "data.mdb")
        self._lock = threading.Lock()
        self._opened: Any = None
        self._writable = False
        self._file: tuple[int, int] | None = None

    @classmethod
    def at(cls, path: Path) -> Environment:
        """The environment of the folder `path`, shared by everyone who asks for it."""
        path = path.resolve()
        with cls._alive_lock:
            environment = cls._alive.get(path)
            if environment is None:
                environment = cls._alive[path] = cls(path)
            return environment

    def read(self, look: Callable[[Transaction], Result]) -> Result:
        """What `look` gives, in one transaction that sees one state. Raises lmdb.Error and OSErrors."""
        with self._lock:
            opened = self._open(writable=False)
            try:
                transaction = opened.begin()
            except lmdb.MapResizedError:  # another process wrote and made the map larger
                opened.set_mapsize(0)
                transaction = opened.begin()
            except lmdb.ReadersFullError:
                opened.reader_check()
                transaction = opened.begin()
            with transaction:
                return look(transaction)

    def write(self, change: Callable[[Transaction], Result]) -> Result:
        """Run `change` in one transaction, all of it or nothing; what it gives, when it is on disk.

        It is run again where the map had to grow or the folder was replaced meanwhile, so it must not have
        other effects. Raises lmdb.Error and OSErrors.
        """
        with self._lock:
            while True:
                opened = self._open(writable=True)
                try:
                    with opened.begin(write=True) as transaction:
                        result = change(transaction)
                    if self._file_now() == self._file:
                        return result
                except lmdb.MapFullError:
                    # A process that was killed while it read keeps all later pages from being used again.
                    if not opened.reader_check():
                        opened.set_mapsize(2 * opened.info()["map_size"])
                except lmdb.MapResizedError:
                    opened.set_mapsize(0)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _open(self, *, writable: bool) -> Any:
        file = self._file_now()
        if self._opened is not None and (file != self._file or (writable and not self._writable)):
            self._close()
        if self._opened is None:
            if writable:
                self._path.mkdir(parents=True, exist_ok=True)
            elif file is None:
                raise FileNotFoundError("there is no store in this folder")
            self._opened = lmdb.open(
                str(self._path),
                map_size=FIRST_MAP_BYTES,
                max_readers=MOST_READERS,
                readonly=not writable,
                create=writable,
                readahead=False,  # single users are read, all over the file
            )
            self._opened.reader_check()
            self._writable = writable
            # As it was before: where it was replaced while it was opened, the next use opens it again.
            self._file = file or self._file_now()
        return self._opened

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _file_now(self) -> tuple[int, int] | None:
        """What identifies the data file; an open map keeps its inode from being used again."""
        try:
            found = os.stat(self._data)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino
