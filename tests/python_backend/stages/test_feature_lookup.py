"""`feature_lookup` on an LMDB store. In its release item 100 has index 1, 90 has 2, … and 10 has 10."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonrec_client.contract import Status

from python_backend.features import FeatureEncoder
from python_backend.history_loop import compile_loop
from python_backend.release import Release
from python_backend.stages.base import InvalidRequest
from python_backend.stages.feature_lookup import FeatureLookup, ItemIndex
from python_backend.stores import UserRecord, open_store

USERS: dict[int, tuple[list[int], dict[str, Any]]] = {
    1: ([100, 90], {"country": "de", "age": 20.0}),
    2: ([100, 90, 80, 70, 60], {"country": "fr", "age": 60.0}),
    3: ([100, 90, 100, 80, 90], {}),
    4: ([100, 999, 90], {"country": "xx"}),
    5: ([], {"country": "de"}),
    6: (list(range(100, 0, -10)), {}),
    7: ([999, 998], {}),
    8: ([100], {"country": "de", "age": "old"}),
    2**63 - 1: ([10], {}),
}
UNKNOWN = 1000


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"lmdb://{tmp_path_factory.mktemp('users')}"
    open_store(url).put_many(
        {
            user_id: UserRecord(np.array(items, np.int64), np.arange(len(items)), features)
            for user_id, (items, features) in USERS.items()
        }
    )
    return url


@pytest.fixture(scope="module")
def stage(lookup_release: Release, store_url: str) -> FeatureLookup:
    return FeatureLookup.load(lookup_release, {"store_url": store_url})


def ask(stage: FeatureLookup, *requests: tuple[int, list[int]]) -> dict[str, np.ndarray[Any, Any]]:
    session = [(items + [-1] * 3)[:3] for _, items in requests]
    inputs = {
        "user_id": np.array([[user_id] for user_id, _ in requests], np.int64).reshape(-1, 1),
        "session_items": np.array(session, np.int64).reshape(-1, 3),
    }
    stage.check(inputs)
    return stage(inputs)


def one(stage: FeatureLookup, user_id: int, *session: int) -> tuple[list[int], list[int], Status]:
    """History, seen and status of a single request."""
    answer = ask(stage, (user_id, list(session)))
    status = Status(int(answer["lookup_status"][0, 0]))
    return answer["history"][0].tolist(), answer["seen"][0].tolist(), status


def test_a_known_user_gets_features_and_items_of_this_release(stage: FeatureLookup) -> None:
    answer = ask(stage, (1, []))
    assert {name: (array.shape, array.dtype) for name, array in answer.items()} == {
        "user_features": ((1, 4), np.int32),
        "history": ((1, 4), np.int32),
        "seen": ((1, 6), np.int32),
        "lookup_status": ((1, 1), np.int32),
    }
    assert answer["history"].tolist() == [[0, 0, 1, 2]]
    assert answer["seen"].tolist() == [[1, 2, 0, 0, 0, 0]]
    assert answer["lookup_status"].tolist() == [[Status.OK]]


def test_features_at_serving_are_the_features_of_training(
    stage: FeatureLookup, lookup_release: Release
) -> None:
    encoder = FeatureEncoder.from_json((lookup_release.artifacts / "user_features.json").read_text())
    users = [1, 2, 3, 4, 5, 6, 7]
    expected = encoder.encode([USERS[user_id][1] for user_id in users])
    assert expected.any()
    assert np.array_equal(ask(stage, *((user_id, []) for user_id in users))["user_features"], expected)


def test_history_keeps_the_newest_items_and_seen_more_of_them(stage: FeatureLookup) -> None:
    assert one(stage, 2) == ([2, 3, 4, 5], [1, 2, 3, 4, 5, 0], Status.OK)


def test_as_many_items_as_seen_holds_are_all_kept(stage: FeatureLookup) -> None:
    assert one(stage, 2, 50) == ([3, 4, 5, 6], [1, 2, 3, 4, 5, 6], Status.OK)


def test_more_items_than_seen_holds_keeps_the_newest_and_says_so(stage: FeatureLookup) -> None:
    assert one(stage, 6) == ([7, 8, 9, 10], [5, 6, 7, 8, 9, 10], Status.SEEN_TRUNCATED)


def test_a_repeated_item_stands_once_at_its_newest_place(stage: FeatureLookup) -> None:
    assert one(stage, 3) == ([0, 1, 3, 2], [1, 3, 2, 0, 0, 0], Status.OK)


def test_the_session_follows_the_stored_history_in_its_order(stage: FeatureLookup) -> None:
    assert one(stage, 1, 50, 60) == ([1, 2, 6, 5], [1, 2, 6, 5, 0, 0], Status.OK)


def test_a_stored_item_that_returns_in_the_session_moves_to_the_end(stage: FeatureLookup) -> None:
    assert one(stage, 1, 100, 60, 100) == ([0, 2, 5, 1], [2, 5, 1, 0, 0, 0], Status.OK)


def test_padding_between_session_items_is_ignored(stage: FeatureLookup) -> None:
    assert one(stage, 1, -1, 60, -1) == one(stage, 1, 60)


def test_stored_items_of_another_release_are_dropped_without_a_flag(stage: FeatureLookup) -> None:
    assert one(stage, 4) == ([0, 0, 1, 2], [1, 2, 0, 0, 0, 0], Status.OK)
    assert one(stage, 7) == ([0] * 4, [0] * 6, Status.OK)


@pytest.mark.parametrize("item", [999, 0, 2**63 - 1])
def test_an_unknown_session_item_is_ignored_and_flagged(stage: FeatureLookup, item: int) -> None:
    assert one(stage, 1, item, 60) == ([0, 1, 2, 5], [1, 2, 5, 0, 0, 0], Status.UNKNOWN_SESSION_ITEM)


def test_an_unknown_user_has_the_session_only(stage: FeatureLookup) -> None:
    assert one(stage, UNKNOWN, 60) == ([0, 0, 0, 5], [5, 0, 0, 0, 0, 0], Status.UNKNOWN_USER)


def test_an_anonymous_user_has_the_session_only_and_is_not_looked_up(
    lookup_release: Release, stage: FeatureLookup, tmp_path: Path
) -> None:
    assert one(stage, -1, 60) == ([0, 0, 0, 5], [5, 0, 0, 0, 0, 0], Status.ANONYMOUS_USER)
    without_store = FeatureLookup.load(lookup_release, {"store_url": f"lmdb://{tmp_path}/none"})
    assert one(without_store, -1)[2] == Status.ANONYMOUS_USER
    assert one(without_store, 1)[2] == Status.STORE_UNAVAILABLE


def test_a_user_without_events_is_known(stage: FeatureLookup) -> None:
    assert one(stage, 5) == ([0] * 4, [0] * 6, Status.OK)


def test_flags_add_up(stage: FeatureLookup) -> None:
    assert one(stage, UNKNOWN, 999)[2] == Status.UNKNOWN_USER | Status.UNKNOWN_SESSION_ITEM
    assert one(stage, 6, 999)[2] == Status.SEEN_TRUNCATED | Status.UNKNOWN_SESSION_ITEM


def test_features_that_do_not_fit_the_release_cost_this_user_the_features_alone(stage: FeatureLookup) -> None:
    answer = ask(stage, (8, []), (1, []))
    assert not answer["user_features"][0].any()
    assert answer["history"][0].tolist() == [0, 0, 0, 1]
    assert answer["lookup_status"][:, 0].tolist() == [Status.CORRUPT_RECORD, Status.OK]
    assert np.array_equal(answer["user_features"][1], ask(stage, (1, []))["user_features"][0])


def test_an_empty_batch_gives_empty_answers(stage: FeatureLookup) -> None:
    assert {name: array.shape for name, array in ask(stage).items()} == {
        "user_features": (0, 4),
        "history": (0, 4),
        "seen": (0, 6),
        "lookup_status": (0, 1),
    }


@pytest.mark.parametrize(
    ("request_", "field"),
    [((-2, []), "user_id"), ((1, [100, -3]), "session_items"), ((-(2**63), []), "user_id")],
)
def test_an_id_below_minus_one_is_refused_by_name(
    stage: FeatureLookup, request_: tuple[int, list[int]], field: str
) -> None:
    with pytest.raises(InvalidRequest, match=rf"{field}: found -\d+; allowed is -1") as refused:
        ask(stage, request_)
    assert refused.value.field == field


user_ids = st.sampled_from([-1, UNKNOWN, *USERS])
session_items = st.lists(st.sampled_from([-1, 999, *range(10, 110, 10)]), max_size=3)


@given(st.lists(st.tuples(user_ids, session_items), min_size=1, max_size=8))
def test_a_batch_is_its_requests_one_by_one(
    stage: FeatureLookup, requests: list[tuple[int, list[int]]]
) -> None:
    batch = ask(stage, *requests)
    for row, request in enumerate(requests):
        for name, array in ask(stage, request).items():
            assert np.array_equal(batch[name][row], array[0]), name


@given(st.lists(st.tuples(user_ids, session_items), min_size=1, max_size=8))
def test_history_and_seen_are_what_a_plain_loop_over_the_events_gives(
    stage: FeatureLookup, requests: list[tuple[int, list[int]]]
) -> None:
    answer = ask(stage, *requests)
    for row, (user_id, session) in enumerate(requests):
        events = USERS.get(user_id, ([], {}))[0] + session
        indices = [11 - event // 10 for event in events if 10 <= event <= 100]
        newest_last = [index for place, index in enumerate(indices) if index not in indices[place + 1 :]]
        history, seen = newest_last[-4:], newest_last[-6:]
        assert answer["history"][row].tolist() == [0] * (4 - len(history)) + history
        assert answer["seen"][row].tolist() == seen + [0] * (6 - len(seen))
        assert set(history) <= set(seen)


wire_ids = st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 20), unique=True, max_size=20)


@given(wire_ids, st.lists(st.integers(-1, 2**63 - 1) | st.integers(-1, 20), max_size=20))
def test_every_item_is_found_by_its_wire_id_and_no_other(items: list[int], asked: list[int]) -> None:
    index = ItemIndex(np.array([-1, *items], np.int64))
    asked = [*items, *asked]
    # A row for each, with one item in its session.
    nothing, session = np.zeros(0, np.int64), np.array(asked, np.int64).reshape(-1, 1)
    history, seen = np.zeros((2, len(asked), 1), np.int32)
    lengths, status = np.zeros(len(asked), np.int64), np.zeros(len(asked), np.int32)
    compile_loop()(nothing, lengths, session, index.wire_ids, index.indices, history, seen, status)
    expected = [items.index(item) + 1 if item in items else 0 for item in asked]
    assert history[:, 0].tolist() == seen[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("wire_id", "message"),
    [([], "one int64 array"), ([0, 1], "-1 at place 0"), ([-1, -1], "at least 0"), ([-1, 5, 5], "twice")],
)
def test_an_item_table_that_cannot_be_is_refused(wire_id: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ItemIndex(np.array(wire_id, np.int64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "store_url is missing"),
        ({"store_url": "mysql://x"}, "allowed are lmdb"),
        ({"store_url": "lmdb:///x", "store_timeout_ms": "soon"}, "store_timeout_ms is 'soon'"),
        ({"store_url": "lmdb:///x", "store_timeout_ms": "0"}, "store_timeout_ms is '0'"),
        ({"store_url": "lmdb:///x", "retry_after_ms": "-5"}, "retry_after_ms is '-5'"),
        ({"store_url": "lmdb:///x", "retry_after_ms": "nan"}, "retry_after_ms is 'nan'"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_at_load(
    lookup_release: Release, options: Mapping[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureLookup.load(lookup_release, options)


def test_features_of_another_width_than_the_release_says_are_refused_at_load(lookup_release: Release) -> None:
    other = replace(lookup_release, sizes=replace(lookup_release.sizes, user_features=9))
    with pytest.raises(ValueError, match="are 4 wide but the release's user_features is 9"):
        FeatureLookup.load(other, {"store_url": "lmdb:///x"})
