"""What a caller may ask for, and the tensors that it becomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from play import shape_of
from tritonrec_client import InvalidRequest, Request, wire_id
from tritonrec_client.contract import DEFAULT_DIVERSITY, RECOMMEND, Sizes
from tritonrec_client.request import check, check_all, stack

SHAPE = shape_of(session=4, results=20, max_batch=3)


def stacked(*requests: Request) -> dict[str, Any]:
    return stack(check_all(requests), SHAPE)


def test_an_empty_request_is_an_anonymous_one_with_defaults() -> None:
    tensors = stacked(Request())
    assert tensors["user_id"].tolist() == [[-1]]
    assert tensors["session_items"].tolist() == [[-1, -1, -1, -1]]
    assert tensors["diversity"].tolist() == [[np.float32(DEFAULT_DIVERSITY)]]


def test_the_tensors_are_those_of_the_contract() -> None:
    tensors = stacked(Request(1), Request(2))
    sizes = Sizes(session=SHAPE.session)
    kinds = {"INT64": np.int64, "FP32": np.float32}
    assert {name: (array.dtype, array.shape) for name, array in tensors.items()} == {
        tensor.name: (kinds[tensor.dtype], (2, tensor.resolve(sizes))) for tensor in RECOMMEND.inputs
    }


def test_a_short_session_is_padded_in_front_so_that_the_newest_stays_last() -> None:
    assert stacked(Request(session=[7, 8]))["session_items"].tolist() == [[-1, -1, 7, 8]]


def test_of_a_long_session_the_last_items_are_sent() -> None:
    assert stacked(Request(session=range(10)))["session_items"].tolist() == [[6, 7, 8, 9]]


def test_padding_that_the_caller_put_in_takes_no_item_s_place() -> None:
    session = np.array([5, 6, -1, 7, -1, -1])
    assert stacked(Request(session=session))["session_items"].tolist() == [[-1, 5, 6, 7]]  # type: ignore[arg-type]


def test_strings_are_translated_for_users_and_items() -> None:
    tensors = stacked(Request("alice", ["sku-1", 9]))
    assert tensors["user_id"].tolist() == [[wire_id("alice")]]
    assert tensors["session_items"].tolist() == [[-1, -1, wire_id("sku-1"), 9]]


@given(st.lists(st.tuples(st.integers(0, 2**62), st.lists(st.integers(0, 2**62), max_size=9)), max_size=3))
def test_requests_stacked_together_are_those_stacked_alone(batch: list[tuple[int, list[int]]]) -> None:
    requests = [Request(user, session) for user, session in batch]
    together = stacked(*requests)
    for row, request in enumerate(requests):
        for name, array in stacked(request).items():
            assert array[0].tolist() == together[name][row].tolist()


BAD = [
    (Request(user=-2), "user", "-2", "from -1 to"),
    (Request(user=True), "user", "True", "from -1 to"),
    (Request(user=2**63), "user", str(2**63), "2**63 - 1"),
    (Request(user=""), "user", "''", "at least one character"),
    (Request(session=[1, -7]), "session[1]", "-7", "from -1 to"),
    (Request(session=[1, None]), "session[1]", "None", "from -1 to"),  # type: ignore[list-item]
    (Request(session="abc"), "session", "'abc'", "sequence of item ids"),
    (Request(session=3), "session", "3", "sequence of item ids"),  # type: ignore[arg-type]
    (Request(diversity=float("nan")), "diversity", "nan", "from 0"),
    (Request(diversity=float("inf")), "diversity", "inf", "to 1"),
    (Request(diversity=-0.1), "diversity", "-0.1", "from 0"),
    (Request(diversity=1.01), "diversity", "1.01", "to 1"),
    (Request(diversity=True), "diversity", "True", "from 0"),
    (Request(diversity="0.3"), "diversity", "'0.3'", "a number"),  # type: ignore[arg-type]
    (Request(count=0), "count", "0", "from 1 to 20"),
    (Request(count=21), "count", "21", "from 1 to 20"),
    (Request(count=True), "count", "True", "from 1 to 20"),
    (Request(count=2.0), "count", "2.0", "from 1 to 20"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("request_", "field", "found", "allowed"), BAD, ids=lambda value: str(value)[:60])
def test_a_bad_value_is_named_with_what_is_allowed(
    request_: Request, field: str, found: str, allowed: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        stack([check(request_)], SHAPE)
    assert error.value.field == field
    assert error.value.found == found
    assert allowed in error.value.allowed
    assert str(error.value) == f"{field}: found {found}; allowed is {error.value.allowed}"


def test_among_many_requests_the_bad_one_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"^requests\[1\]\.session\[0\]: found -5;"):
        check_all([Request(), Request(session=[-5])])


def test_more_requests_than_a_batch_holds_are_refused_with_the_limit() -> None:
    with pytest.raises(InvalidRequest, match=r"requests: found 4 of them; allowed is 1 to 3"):
        stacked(*[Request()] * 4)


def test_numpy_numbers_are_numbers() -> None:
    tensors = stack([check(Request(np.int64(5), diversity=np.float32(0.5), count=np.int32(3)))], SHAPE)  # type: ignore[arg-type]
    assert tensors["diversity"].tolist() == [[0.5]]
