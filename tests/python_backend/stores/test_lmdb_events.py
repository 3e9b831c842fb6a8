from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import lmdb
import numpy as np
import pytest
from happenings import event, pairs_of, record
from tritonrec_client.contract import Acknowledgement

from python_backend.stores import StoreUnavailable, UserRecord, open_event_log, open_store
from python_backend.stores.lmdb_environment import FIRST_MAP_BYTES, Environment

RECORDED = Acknowledgement.RECORDED


def test_a_folder_from_before_there_was_a_log_is_gone_on_with(tmp_path: Path) -> None:
    with open_store(f"lmdb://{tmp_path}") as store:
        store.put_many({user_id: record((user_id, 50)) for user_id in range(100)})
        with open_event_log(f"lmdb://{tmp_path}") as log:
            assert (log.read(), log.end(), log.forgotten()) == ([], "", {})
            log.record([event(user_id=7, item_id=8)])
        records = store.get_many(range(100))
    assert pairs_of(records[7]) == [(7, 50), (8, 100)]
    assert records[:7] + records[8:] == [record((user_id, 50)) for user_id in range(100) if user_id != 7]


def test_a_users_key_is_never_one_of_the_log(tmp_path: Path) -> None:
    users = [0, 0x80, 0x81 << 48, 2**63 - 1]
    with open_event_log(f"lmdb://{tmp_path}") as log, open_store(f"lmdb://{tmp_path}") as store:
        log.record([event(user_id=user_id) for user_id in users])
        assert all(isinstance(found, UserRecord) for found in store.get_many(users))
        assert [each.user_id for _, each in log.read()] == users
        assert log.forget(users) == [True] * 4
    with lmdb.open(str(tmp_path)) as opened, opened.begin() as transaction:
        keys = [key for key, _ in transaction.cursor()]
    assert [key[:1] for key in keys] == [b"\x80", *[b"\x84"] * 4]  # the newest position and who was forgotten


def test_the_map_grows_while_events_are_written_and_a_reader_in_another_process_follows(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("spawn")
    url = f"lmdb://{tmp_path}"
    with open_event_log(url, history_limit=100_000) as log:
        log.record([event(user_id=0)])
        asked, answered = context.Queue(), context.Queue()
        reader = context.Process(
            target=read_lengths, args=(f"{url}?readonly=1", asked, answered), daemon=True
        )
        reader.start()
        asked.put([0])
        assert answered.get(timeout=30) == [1]
        long = UserRecord(np.ones(90_000, np.int64), np.arange(90_000, dtype=np.int64))
        for user_id in range(50):
            with open_store(url) as store:
                store.put_many({user_id: long})
            assert log.record([event(user_id=user_id, item_id=2, timestamp=100_000)]) == [RECORDED]
        assert (tmp_path / "data.mdb").stat().st_size > FIRST_MAP_BYTES
        asked.put([0, 49])
        assert answered.get(timeout=30) == [90_001] * 2
        asked.put(None)
        reader.join(30)


def read_lengths(url: str, asked: multiprocessing.Queue, answered: multiprocessing.Queue) -> None:
    with open_store(url) as store:
        while users := asked.get():
            answered.put(
                [len(found.items) for found in store.get_many(users) if isinstance(found, UserRecord)]
            )


def test_a_folder_that_is_replaced_is_written_anew(tmp_path: Path) -> None:
    with open_store(f"lmdb://{tmp_path}/next") as store:
        store.put_many({1: record((7, 50))})
    with open_event_log(f"lmdb://{tmp_path}/store") as log, open_store(f"lmdb://{tmp_path}/store") as store:
        log.record([event(item_id=8)])
        shutil.rmtree(tmp_path / "store")
        (tmp_path / "next").rename(tmp_path / "store")
        log.record([event(item_id=9)])
        assert pairs_of(store.get_many([1])[0]) == [(7, 50), (9, 100)]


def test_a_folder_that_is_replaced_during_a_write_gets_the_write_too(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    environment = Environment.at(tmp_path / "store")
    runs = []

    def change(transaction: lmdb.Transaction) -> int:
        transaction.put(b"key", b"value")
        runs.append(1)
        if len(runs) == 1:
            (tmp_path / "store").rename(tmp_path / "old")
        return len(runs)

    assert environment.write(change) == 2
    assert environment.read(lambda transaction: transaction.get(b"key")) == b"value"
    environment.close()


def test_a_readonly_log_reads_and_refuses_to_write(tmp_path: Path) -> None:
    with open_event_log(f"lmdb://{tmp_path}") as log:
        log.record([event()])
    with open_event_log(f"lmdb://{tmp_path}?readonly=1") as log:
        assert len(log.read()) == 1
        for write in (lambda: log.record([event()]), lambda: log.forget([1]), lambda: log.reapply([1])):
            with pytest.raises(PermissionError, match="readonly"):
                write()


def test_where_nobody_has_written_yet_the_log_is_empty_and_reading_makes_no_store(tmp_path: Path) -> None:
    log = open_event_log(f"lmdb://{tmp_path}/nowhere")
    assert (log.read(), log.end(), log.forgotten()) == ([], "", {})
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_is_no_store_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a store" * 1000)
    with pytest.raises(StoreUnavailable):
        open_event_log(f"lmdb://{tmp_path}").record([event()])
