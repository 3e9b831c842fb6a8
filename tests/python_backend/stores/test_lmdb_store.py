from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from python_backend.stores import StoreUnavailable, UserRecord, open_store
from python_backend.stores.lmdb_environment import FIRST_MAP_BYTES


def record(*items: int) -> UserRecord:
    return UserRecord(np.array(items, np.int64), np.zeros(len(items), np.int64))


def write_in_another_process(path: Path, users: int, items: int) -> None:
    code = (
        "import sys, numpy as np\n"
        "from python_backend.stores import UserRecord, open_store\n"
        "url, users, items = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n"
        "record = UserRecord(np.arange(items), np.zeros(items, np.int64))\n"
        "open_store(url).put_many({user_id: record for user_id in range(users)})\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, f"lmdb://{path}", str(users), str(items)],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_reading_where_no_store_is_says_so_and_makes_none(tmp_path: Path) -> None:
    store = open_store(f"lmdb://{tmp_path}/nowhere")
    with pytest.raises(StoreUnavailable, match="nowhere"):
        store.get_many([1])
    assert not (tmp_path / "nowhere").exists()


def test_the_first_write_makes_the_folder_with_its_parents(tmp_path: Path) -> None:
    store = open_store(f"lmdb://{tmp_path}/deep/store")
    store.put_many({1: record(5)})
    assert store.get_many([1]) == [record(5)]


def test_a_relative_path_starts_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("lmdb://data/store").put_many({1: record(5)})
    assert (tmp_path / "data" / "store" / "data.mdb").is_file()


def test_a_readonly_store_reads_and_refuses_to_write(tmp_path: Path) -> None:
    open_store(f"lmdb://{tmp_path}").put_many({1: record(5)})
    store = open_store(f"lmdb://{tmp_path}?readonly=1")
    assert store.get_many([1]) == [record(5)]
    with pytest.raises(PermissionError, match="readonly"):
        store.put_many({1: record(6)})
    with pytest.raises(PermissionError, match="readonly"):
        store.delete_many([1])
    assert store.get_many([1]) == [record(5)]


def test_a_reader_sees_what_another_process_writes_beyond_the_first_size_of_the_map(tmp_path: Path) -> None:
    writer = open_store(f"lmdb://{tmp_path}")
    writer.put_many({0: record(5)})
    reader = open_store(f"lmdb://{tmp_path}?readonly=1")
    assert reader.get_many([0]) == [record(5)]
    write_in_another_process(tmp_path, users=60, items=100_000)
    assert (tmp_path / "data.mdb").stat().st_size > FIRST_MAP_BYTES
    newest = reader.get_many([0, 59])
    assert [len(found.items) for found in newest if isinstance(found, UserRecord)] == [100_000] * 2
    writer.put_many({0: record(6)})
    assert reader.get_many([0]) == [record(6)]


def test_a_writer_goes_on_after_another_process_made_the_map_larger(tmp_path: Path) -> None:
    writer = open_store(f"lmdb://{tmp_path}")
    writer.put_many({0: record(5)})
    write_in_another_process(tmp_path, users=60, items=100_000)
    writer.put_many({0: record(6)})
    assert writer.get_many([0]) == [record(6)]


def test_a_reader_that_is_killed_does_not_make_the_folder_grow_for_ever(tmp_path: Path) -> None:
    writer = open_store(f"lmdb://{tmp_path}")
    writer.put_many({0: record(5)})
    code = (
        "import sys, lmdb\n"
        "opened = lmdb.open(sys.argv[1], readonly=True)\n"
        "transaction = opened.begin()\n"
        "print(len(transaction.get(bytes(8))), flush=True)\n"
        "sys.stdin.read()\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        reader.kill()
    for _ in range(90):
        writer.put_many({1: record(*range(50_000))})
    assert (tmp_path / "data.mdb").stat().st_size <= FIRST_MAP_BYTES


def test_a_folder_that_is_removed_is_unavailable_until_it_is_written_again(tmp_path: Path) -> None:
    store = open_store(f"lmdb://{tmp_path}/store")
    store.put_many({1: record(5)})
    assert store.get_many([1]) == [record(5)]
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(StoreUnavailable):
        store.get_many([1])
    store.put_many({2: record(6)})
    assert store.get_many([1, 2]) == [None, record(6)]


def test_a_folder_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    store = open_store(f"lmdb://{tmp_path}/store")
    store.put_many({1: record(5)})
    assert store.get_many([1]) == [record(5)]
    write_in_another_process(tmp_path / "next", users=2, items=3)
    (tmp_path / "store").rename(tmp_path / "old")
    (tmp_path / "next").rename(tmp_path / "store")
    assert store.get_many([1]) == [record(0, 1, 2)]


def test_a_file_that_is_no_store_is_unavailable_and_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a store" * 1000)
    with pytest.raises(StoreUnavailable):
        open_store(f"lmdb://{tmp_path}").get_many([1])


def test_a_write_is_all_or_nothing(tmp_path: Path) -> None:
    store = open_store(f"lmdb://{tmp_path}")
    store.put_many({1: record(5)})
    with pytest.raises(ValueError, match="too large"):
        store.put_many({2: record(6), 3: UserRecord(features={"size": 2**70})})
    assert store.get_many([1, 2]) == [record(5), None]
