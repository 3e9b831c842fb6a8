from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tritonrec_client.ids import wire_id

from python_backend.stores import UserRecord, open_store
from tools.load.visitors import UNKNOWN_FROM, Audience, read_users, stored_users

USERS = np.arange(1000, 1100)
ITEMS = np.arange(5, 55)


def test_users_come_by_zipfs_law() -> None:
    visitors = Audience(USERS, ITEMS, zipf=1.0, unknown=0, anonymous=0).draw(200_000, 5, seed=1)
    shares = np.sort(np.bincount(visitors.users - 1000, minlength=100))[::-1] / 200_000
    expected = (1 / np.arange(1, 101)) / (1 / np.arange(1, 101)).sum()
    assert shares[:20] == pytest.approx(expected[:20], rel=0.1)
    assert set(np.unique(visitors.users)) == set(USERS.tolist())


def test_an_exponent_of_0_is_uniform() -> None:
    users = Audience(USERS, ITEMS, zipf=0, unknown=0, anonymous=0).draw(100_000, 5, seed=1).users
    assert np.bincount(users - 1000) == pytest.approx(1000, rel=0.2)


def test_the_most_frequent_user_is_not_simply_the_first() -> None:
    first = [Audience(USERS, ITEMS, unknown=0, anonymous=0).draw(2000, 5, seed).users for seed in (1, 2)]
    assert len({int(np.bincount(users).argmax()) for users in first}) == 2


def test_the_shares_of_unknown_users_and_anonymous_visits_are_as_asked_for() -> None:
    users = Audience(USERS, ITEMS, unknown=0.05, anonymous=0.2).draw(100_000, 5, seed=3).users
    assert (users == -1).mean() == pytest.approx(0.2, abs=0.005)
    unknown = users[users >= UNKNOWN_FROM]
    assert len(unknown) / len(users) == pytest.approx(0.05, abs=0.003)
    assert len(np.unique(unknown)) == len(unknown)


def test_sessions_hold_items_and_padding_after_them() -> None:
    sessions = Audience(USERS, ITEMS).draw(10_000, 8, seed=3).sessions
    assert sessions.shape == (10_000, 8)
    assert sessions.dtype == np.int64
    lengths = (sessions != -1).sum(axis=1)
    assert np.bincount(lengths, minlength=6)[:6] == pytest.approx(10_000 / 6, rel=0.1)
    assert (np.diff((sessions == -1).astype(int), axis=1) >= 0).all()
    assert np.isin(sessions[sessions != -1], ITEMS).all()


def test_without_items_sessions_are_empty() -> None:
    assert (Audience(USERS, np.zeros(0, np.int64)).draw(10, 5, seed=1).sessions == -1).all()


def test_the_same_seed_gives_the_same_visitors() -> None:
    first, again = (Audience(USERS, ITEMS).draw(100, 5, seed=9) for _ in range(2))
    assert np.array_equal(first.users, again.users)
    assert np.array_equal(first.sessions, again.sessions)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"zipf": -1}, "zipf is -1"),
        ({"unknown": 1.2}, "unknown is 1.2"),
        ({"anonymous": -0.1}, "anonymous is -0.1"),
        ({"unknown": 0.6, "anonymous": 0.6}, "at most 1"),
        ({"users": np.zeros(0, np.int64)}, "no users"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Audience(**{"users": USERS, "items": ITEMS, **options})  # type: ignore[arg-type]


def test_users_are_those_of_the_store(tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path}/store"
    with open_store(url) as store:
        store.put_many({user: UserRecord() for user in (7, 300, 2**62 + 1)})
    assert stored_users(url).tolist() == [7, 300, 2**62 + 1]
    assert stored_users(url, limit=2).tolist() == [7, 300]


def test_users_are_a_range_or_the_lines_of_a_file(tmp_path: Path) -> None:
    assert read_users("5-8").tolist() == [5, 6, 7, 8]
    (tmp_path / "users.txt").write_text("12\n\n anna \n7\n")
    assert read_users(str(tmp_path / "users.txt")).tolist() == [12, wire_id("anna"), 7]
    with pytest.raises(ValueError, match="a range is FIRST-LAST"):
        read_users("8-5")
    with pytest.raises(OSError, match=r"nobody\.txt"):
        read_users(str(tmp_path / "nobody.txt"))
