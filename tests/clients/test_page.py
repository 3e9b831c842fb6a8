"""What the server's tensors become."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from tritonrec_client import (
    DeadlineExceeded,
    InvalidRequest,
    MixedReleases,
    Page,
    Reason,
    Recommendation,
    RecommendError,
    ServerError,
    Status,
    Unavailable,
)
from tritonrec_client.contract import STAGES, FoundBy, release_to_wire
from tritonrec_client.page import decode
from tritonrec_client.request import Arrays

RELEASE = "00ab12cd34ef"


def outputs() -> Arrays:
    """Two pages of three places; the second is short."""
    release = np.full((2, 1), release_to_wire(RELEASE), np.int64)
    return {
        "item_id": np.array([[5, 2**63 - 1, 0], [9, -1, -1]], np.int64),
        "score": np.array([[3.5, 2.0, -1.0], [0.5, 0, 0]], np.float32),
        "reason": np.array([[1, 3, 4], [2, 0, 0]], np.int32),
        "channel": np.array([[1, 8, 0], [10, 0, 0]], np.int32),
        "because": np.array([[4, 2**63 - 2, -1], [-1, -1, -1]], np.int64),
        "propensity": np.array([[1, 0.25, 1], [1, 1, 1]], np.float32),
        "status": np.array([[0], [66]], np.int32),
        **{f"{stage.name}_release": release for stage in STAGES},
    }


def test_pages_hold_items_best_first_with_all_that_is_said_of_them() -> None:
    first, _ = decode(outputs(), [None, None])
    assert first.items == (
        Recommendation(5, 3.5, Reason.HISTORY, FoundBy.TRANSFORMER, 4),
        Recommendation(2**63 - 1, 2.0, Reason.VARIETY, FoundBy.USER_KNN, 2**63 - 2, 0.25),
        Recommendation(0, -1.0, Reason.PINNED),
    )
    assert first.status == Status.OK


def test_padding_is_removed_and_the_status_says_why() -> None:
    _, second = decode(outputs(), [None, None])
    assert [place.item_id for place in second.items] == [9]
    assert second.status == Status.UNKNOWN_USER | Status.SHORT_PAGE


def test_a_count_cuts_each_page_by_itself() -> None:
    assert [len(page.items) for page in decode(outputs(), [2, 3])] == [2, 1]


def test_a_page_names_its_release() -> None:
    page = decode(outputs(), [None, None])[0]
    assert page.is_consistent
    assert page.release == RELEASE
    assert list(page.releases) == ["feature_lookup", "retrieve", "rank", "rerank"]


def test_every_step_that_names_its_release_is_compared() -> None:
    arrays = outputs()
    arrays["retrieve_ease_release"] = np.full((2, 1), 1, np.int64)
    assert not decode(arrays, [None, None])[0].is_consistent


def test_a_page_names_its_arm_of_an_experiment() -> None:
    assert {page.arm for page in decode(outputs(), [None, None])} == {None}
    assert {page.arm for page in decode(outputs(), [None, None], "challenger")} == {"challenger"}


def test_a_page_of_mixed_releases_has_no_release() -> None:
    arrays = outputs()
    arrays["rank_release"] = np.full((2, 1), 1, np.int64)
    page = decode(arrays, [None, None])[0]
    assert not page.is_consistent
    with pytest.raises(MixedReleases, match=f"retrieve {RELEASE}, rank 000000000001"):
        _ = page.release


def test_reasons_and_status_flags_of_a_newer_server_are_kept_as_numbers() -> None:
    arrays = outputs()
    arrays["reason"] = np.full((2, 3), 77, np.int32)
    arrays["channel"] = np.full((2, 3), 78, np.int32)
    arrays["status"] = np.array([[2 + 4096], [0]], np.int32)
    page = decode(arrays, [None, None])[0]
    assert (page.items[0].reason, page.items[0].channel) == (77, 78)
    assert Status.UNKNOWN_USER in page.status
    assert int(page.status) == 4098


def test_pages_are_plain_values() -> None:
    page = decode(outputs(), [None, None])[0]
    assert pickle.loads(pickle.dumps(page)) == page
    assert page == Page(page.items, Status.OK, dict(page.releases))


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("user", "-2", "an integer"),
        DeadlineExceeded(0.5, 2, "slow"),
        Unavailable(("a:1", "b:2"), 3, "refused"),
        ServerError("a:1", "INTERNAL", "oops"),
        MixedReleases({"rank": RELEASE}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling_and_say_what_they_know(error: RecommendError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    for known in error.args:
        for value in [known] if isinstance(known, str) else []:
            assert value in str(error)
