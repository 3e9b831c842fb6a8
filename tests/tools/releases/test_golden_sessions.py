"""Golden requests without a server: whom they are about, and a file that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from toy_release import make_release

from python_backend.release import Release
from tools.checks import CheckFailed
from tools.data.interactions import Interactions
from tools.releases.golden import FREQUENT, GOLDEN, check_golden, golden_sessions, list_difference

ROUNDING = 2e-6
"""What another processor may make of a score; other kernels on this one differ by up to 6e-7."""
LIST = {"item_id": [7, 5, 9, 4], "score": [0.5, 0.5 - ROUNDING, 0.2, 0.1], "reason": [1, 3, 1, 1]}


def people(*histories: list[int], n_items: int = 9) -> Interactions:
    """Histories as item indices; the wire id of item i is 100 + i."""
    lengths = [len(items) for items in histories]
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([item for items in histories for item in items], dtype=np.int32),
        timestamps=np.zeros(sum(lengths), dtype=np.int64),
        user_ids=np.arange(len(histories), dtype=np.int64),
        item_ids=np.array([-1, *range(101, 101 + n_items)], dtype=np.int64),
    )


MANY = people(*FREQUENT * [[1, 2, 3, 4, 5, 6]], [7, 8], [7])


def test_sessions_are_nothing_single_items_and_pairs() -> None:
    sessions = golden_sessions(MANY)
    assert len(sessions) == 8
    assert sessions[0] == []
    assert [len(session) for session in sessions[1:]] == [1, 1, 1, 1, 2, 2, 2]
    assert [101] in sessions  # the most popular
    assert [109] in sessions  # the least
    assert sessions == golden_sessions(MANY)


def test_a_pair_is_of_items_that_many_have_met() -> None:
    pairs = [session for session in golden_sessions(MANY, 40) if len(session) == 2]
    assert pairs == [[101, 102], [103, 104], [105, 106]]
    few = people(*(FREQUENT - 1) * [[1, 2, 3]])
    assert all(len(session) < 2 for session in golden_sessions(few))


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_there_are_no_more_sessions_than_asked_for_and_none_twice(count: int) -> None:
    sessions = [tuple(session) for session in golden_sessions(MANY, count)]
    assert len(set(sessions)) == len(sessions) <= count


def test_sessions_of_one_item_where_a_request_holds_no_more() -> None:
    assert all(len(session) < 2 for session in golden_sessions(MANY, longest=1))


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release.open(make_release(tmp_path, "0123456789ab"))


def check(release: Release) -> None:
    """Nothing listens here: the file is looked at before anybody is asked."""
    with grpcclient.InferenceServerClient("127.0.0.1:1") as client:
        check_golden(client, release)


def test_a_release_without_golden_requests_is_refused(release: Release) -> None:
    with pytest.raises(CheckFailed, match=rf"{GOLDEN}: is missing; this release was built without"):
        check(release)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and so on", b"\x93NUMPY"])
def test_a_broken_file_is_refused(release: Release, content: bytes) -> None:
    (release.path / GOLDEN).write_bytes(content)
    with pytest.raises(CheckFailed, match=rf"{GOLDEN}: cannot be read .*; build the release again"):
        check(release)


def test_a_file_without_a_tensor_is_refused(release: Release) -> None:
    np.savez(release.path / GOLDEN, **{"inputs/user_id": np.zeros((1, 1), np.int64)})
    with pytest.raises(CheckFailed, match="cannot be read"):
        check(release)


# What counts as the same list.


def difference(**now: list[float]) -> str | None:
    return list_difference(
        {name: (np.array(was), np.array(now.get(name, was))) for name, was in LIST.items()}
    )


def test_scores_may_differ_by_rounding_and_by_no_more() -> None:
    assert difference(score=[score + ROUNDING for score in LIST["score"]]) is None
    assert difference(score=[0.5, 0.5, 0.2, 0.1001]) == "score[3] is 0.1001; it was 0.1"
    assert difference(score=[0.5, 0.5, 0.2, float("nan")]) == "score[3] is nan; it was 0.1"


def test_items_may_swap_places_where_their_scores_are_that_close() -> None:
    assert difference(item_id=[5, 7, 9, 4], reason=[3, 1, 1, 1]) is None
    assert difference(item_id=[7, 9, 5, 4], reason=[1, 1, 3, 1]) == "item_id[1] is 9; it was 5"


def test_a_reason_stays_with_its_item() -> None:
    assert difference(item_id=[5, 7, 9, 4]) == "reason of item 5 is 1; it was 3"


def test_only_the_end_of_a_list_may_hold_another_item() -> None:
    assert difference(item_id=[7, 5, 9, 8]) is None  # as good as the one that was last
    assert difference(item_id=[7, 5, 8, 4]) == "item_id[2] is 8; it was 9"
