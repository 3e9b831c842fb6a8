"""`feature_lookup` on stores that work, die, hang, disappear or hold damage: it answers, and recovers."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import lmdb
import numpy as np
import pytest
from redis_server import RedisServer
from tritonrec_client.contract import Status

from python_backend.release import Release
from python_backend.stages.feature_lookup import FeatureLookup
from python_backend.stores import UserRecord, open_store

TIMEOUT_MS, RETRY_AFTER_MS = 50, 200
PERSONAL = ([0, 0, 1, 2], Status.OK)  # what the store makes of user 1
NOT_PERSONAL = ([0, 0, 0, 0], Status.STORE_UNAVAILABLE)


def fill(url: str) -> None:
    with open_store(url, timeout=5) as store:
        store.put_many({1: UserRecord(np.array([100, 90]), np.array([1, 2]), {"country": "de"})})


def load(release: Release, url: str, timeout_ms: float = TIMEOUT_MS) -> FeatureLookup:
    options = {"store_timeout_ms": str(timeout_ms), "retry_after_ms": str(RETRY_AFTER_MS)}
    return FeatureLookup.load(release, {"store_url": url, **options})


def history(stage: FeatureLookup, user_id: int = 1) -> tuple[list[int], Status]:
    answer = stage(
        {"user_id": np.array([[user_id]], np.int64), "session_items": np.full((1, 3), -1, np.int64)}
    )
    return answer["history"][0].tolist(), Status(int(answer["lookup_status"][0, 0]))


def recovered(stage: FeatureLookup) -> tuple[list[int], Status]:
    """The answer as soon as it is no longer that of a missing store, at most a few seconds later."""
    deadline = time.monotonic() + 5
    answer = history(stage)
    while answer == NOT_PERSONAL and time.monotonic() < deadline:
        time.sleep(0.02)
        answer = history(stage)
    return answer


def test_a_batch_asks_the_store_once_and_for_each_user_once(
    lookup_release: Release, redis_server: RedisServer
) -> None:
    fill(redis_server.url)
    stage = load(lookup_release, redis_server.url, timeout_ms=5000)
    batch = {
        "user_id": np.array([[1], [7], [1], [-1], [7], [1]], np.int64),
        "session_items": np.full((6, 3), -1, np.int64),
    }
    with redis_server.client() as client:
        client.config_resetstat()
        status = stage(batch)["lookup_status"][:, 0].tolist()
        asked = client.info("stats")
        calls = client.info("commandstats")["cmdstat_mget"]["calls"]
    known, unknown, anonymous = Status.OK, Status.UNKNOWN_USER, Status.ANONYMOUS_USER
    assert status == [known, unknown, known, anonymous, unknown, known]
    assert (calls, asked["keyspace_hits"], asked["keyspace_misses"]) == (1, 1, 1)


def test_redis_is_killed_and_comes_back_on_its_port(lookup_release: Release, own_redis: RedisServer) -> None:
    fill(own_redis.url)
    stage = load(lookup_release, own_redis.url, timeout_ms=1000)
    assert history(stage) == PERSONAL
    own_redis.kill()
    assert [history(stage) for _ in range(20)] == [NOT_PERSONAL] * 20
    own_redis.start()
    fill(own_redis.url)
    assert recovered(stage) == PERSONAL


def test_the_stage_loads_before_its_redis_runs(lookup_release: Release, own_redis: RedisServer) -> None:
    own_redis.kill()
    stage = load(lookup_release, own_redis.url, timeout_ms=1000)
    assert history(stage) == NOT_PERSONAL
    own_redis.start()
    fill(own_redis.url)
    assert recovered(stage) == PERSONAL


def test_a_hanging_redis_costs_one_timeout_and_not_one_per_request(
    lookup_release: Release, own_redis: RedisServer
) -> None:
    fill(own_redis.url)
    stage = load(lookup_release, own_redis.url)
    assert recovered(stage) == PERSONAL
    own_redis.stall()
    start = time.monotonic()
    assert [history(stage) for _ in range(50)] == [NOT_PERSONAL] * 50
    assert time.monotonic() - start < 50 * TIMEOUT_MS / 1000 / 2
    own_redis.resume()
    assert recovered(stage) == PERSONAL


def test_an_lmdb_folder_is_removed_and_written_again(lookup_release: Release, tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path}/store"
    fill(url)
    stage = load(lookup_release, url)
    assert history(stage) == PERSONAL
    shutil.rmtree(tmp_path / "store")
    assert history(stage) == NOT_PERSONAL
    fill(url)
    assert recovered(stage) == PERSONAL


def test_the_stage_loads_before_its_lmdb_folder_is_written(lookup_release: Release, tmp_path: Path) -> None:
    stage = load(lookup_release, f"lmdb://{tmp_path}/store?readonly=1")
    assert history(stage) == NOT_PERSONAL
    fill(f"lmdb://{tmp_path}/store")
    assert recovered(stage) == PERSONAL


@pytest.mark.parametrize("place", [0, 3, 20, -1])
def test_a_corrupt_record_costs_its_user_alone(lookup_release: Release, tmp_path: Path, place: int) -> None:
    url = f"lmdb://{tmp_path}/store"
    fill(url)
    key = (1).to_bytes(8, "big")
    with lmdb.open(str(tmp_path / "store")) as opened, opened.begin(write=True) as transaction:
        damaged = bytearray(transaction.get(key))
        transaction.put((2).to_bytes(8, "big"), bytes(damaged))
        damaged[place] ^= 1
        transaction.put(key, bytes(damaged))
    stage = load(lookup_release, url)
    assert history(stage, user_id=1) == ([0, 0, 0, 0], Status.CORRUPT_RECORD)
    assert history(stage, user_id=2) == PERSONAL
    fill(url)
    assert history(stage) == PERSONAL
