"""Bad requests are refused by the name of what is wrong, and touch nobody else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from calls import Arrays, ask, ask_at_once, assert_same_pages, request_of
from tiny import Server
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.server

MAX_BATCH = 64
INPUTS = "user_id|session_items|diversity"
USER = "user_id: found {}; allowed is -1 (anonymous) or an id from 0 to 9223372036854775807"
ITEM = "session_items: found {}; allowed is -1 (padding) or an id from 0 to 9223372036854775807"
DIVERSITY = "diversity: found {}; allowed is a number from 0 to 1"


def refusal(client: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """The server's words; the next good request is answered as the one before."""
    good = request_of_nobody()
    before = ask(client, good)
    with pytest.raises(InferenceServerException) as error:
        ask(client, arrays)
    assert_same_pages(ask(client, good), before)
    assert error.value.status() == "StatusCode.INVALID_ARGUMENT"
    return str(error.value.message())


def request_of_nobody() -> Arrays:
    return {
        "user_id": np.array([[-1]], np.int64),
        "session_items": np.full((1, 5), -1, np.int64),
        "diversity": np.full((1, 1), 0.3, np.float32),
    }


def changed(name: str, array: npt.NDArray[Any]) -> Arrays:
    return request_of_nobody() | {name: array}


@pytest.mark.parametrize("value", [-2, -5, -(2**63)])
def test_an_id_below_minus_one_is_refused(grpc_client: Any, value: int) -> None:
    message = refusal(grpc_client, changed("user_id", np.array([[value]], np.int64)))
    assert USER.format(value) in message
    items = np.array([[-1, 2**62, value, 5, -1]], np.int64)
    assert ITEM.format(value) in refusal(grpc_client, changed("session_items", items))


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5, float("inf"), -float("inf"), 1.0000001])
def test_a_diversity_outside_0_to_1_is_refused(grpc_client: Any, value: float) -> None:
    array = np.array([[value]], np.float32)
    assert DIVERSITY.format(float(array[0, 0])) in refusal(grpc_client, changed("diversity", array))


def test_one_bad_row_refuses_its_request(server: Server, grpc_client: Any) -> None:
    request = request_of(server.sizes, server.known_users[:8])
    request["diversity"][5] = 7
    assert DIVERSITY.format(7.0) in refusal(grpc_client, request)


WIDE = np.full((1, 6), -1, np.int64)
SHAPES: list[tuple[str, npt.NDArray[Any], str]] = [
    ("user_id", np.zeros((1, 2), np.int64), "Expected [-1,1], got [1,2]"),
    ("user_id", np.zeros(1, np.int64), "Expected [-1,1], got [1]"),
    ("user_id", np.zeros((1, 1, 1), np.int64), "Expected [-1,1], got [1,1,1]"),
    ("session_items", WIDE, "Expected [-1,5], got [1,6]"),
    ("session_items", WIDE[:, :4], "Expected [-1,5], got [1,4]"),
    ("diversity", np.zeros((1, 3), np.float32), "Expected [-1,1], got [1,3]"),
]


@pytest.mark.parametrize(
    ("name", "array", "expected"), SHAPES, ids=lambda value: str(getattr(value, "shape", value))
)
def test_a_wrong_shape_is_refused_with_the_right_one(
    grpc_client: Any, name: str, array: npt.NDArray[Any], expected: str
) -> None:
    message = refusal(grpc_client, changed(name, array))
    assert f"'{name}'" in message
    assert expected in message


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("user_id", np.int32, "data-type is 'INT32', but model 'recommend' expects 'INT64'"),
        ("user_id", np.float64, "data-type is 'FP64', but model 'recommend' expects 'INT64'"),
        ("user_id", np.object_, "data-type is 'BYTES', but model 'recommend' expects 'INT64'"),
        ("session_items", np.int32, "data-type is 'INT32', but model 'recommend' expects 'INT64'"),
        ("diversity", np.float64, "data-type is 'FP64', but model 'recommend' expects 'FP32'"),
    ],
)
def test_a_wrong_type_is_refused_with_the_right_one(
    grpc_client: Any, name: str, dtype: type[np.generic], expected: str
) -> None:
    message = refusal(grpc_client, changed(name, request_of_nobody()[name].astype(dtype)))
    assert f"'{name}'" in message
    assert expected in message


@pytest.mark.parametrize("name", ["user_id", "session_items", "diversity"])
def test_a_missing_input_is_named(grpc_client: Any, name: str) -> None:
    request = request_of_nobody()
    del request[name]
    assert f"missing required input(s) ['{name}']" in refusal(grpc_client, request)


def test_no_inputs_at_all_are_refused(grpc_client: Any) -> None:
    message = refusal(grpc_client, {})
    assert "expected 3 inputs but got 0 inputs" in message


@pytest.mark.parametrize("name", ["user", "history", "USER_ID"])
def test_an_unknown_input_is_named(grpc_client: Any, name: str) -> None:
    message = refusal(grpc_client, changed(name, np.zeros((1, 1), np.int64)))
    assert name in message


def test_an_empty_batch_is_refused(server: Server, grpc_client: Any) -> None:
    message = refusal(grpc_client, request_of(server.sizes, []))
    assert re.search(rf"size mismatch for input '({INPUTS})' .* Expected \d+, got 0", message)


def test_inputs_that_disagree_about_the_batch_are_refused(server: Server, grpc_client: Any) -> None:
    request = request_of(server.sizes, [1, 2, 3]) | {"diversity": np.zeros((2, 1), np.float32)}
    message = refusal(grpc_client, request)
    assert re.search(rf"input '({INPUTS})' batch size does not match other inputs", message)


def test_the_largest_batch_is_answered_and_a_larger_one_is_refused_with_the_limit(
    server: Server, grpc_client: Any
) -> None:
    users = list(range(MAX_BATCH + 1))
    assert ask(grpc_client, request_of(server.sizes, users[:-1]))["item_id"].shape == (MAX_BATCH, 10)
    message = refusal(grpc_client, request_of(server.sizes, users))
    assert f"batch-size must be <= {MAX_BATCH}" in message


def test_a_bad_request_among_good_ones_in_flight_fails_alone(server: Server, grpc_client: Any) -> None:
    """Every kind of bad value, at every stage, between requests that are batched with it."""
    users = itertools.cycle(server.known_users[:40])
    requests, expected = [], []
    bad = itertools.cycle(
        [
            ("user_id", -7, USER.format(-7)),
            ("session_items", -9, ITEM.format(-9)),
            ("diversity", float("nan"), DIVERSITY.format("nan")),
        ]
    )
    for place in range(300):
        requests.append(request_of(server.sizes, [next(users)]))
        if place % 4 == 1:
            name, value, message = next(bad)
            requests[-1][name][:] = value
            expected.append(message)
        else:
            expected.append("")
    alone = {user: ask(grpc_client, request_of(server.sizes, [user])) for user in server.known_users[:40]}
    pipeline, before = f"pipeline_{server.release}", server.triton.statistics()
    answers = ask_at_once(grpc_client, requests)
    batches = server.triton.statistics()[pipeline] - before[pipeline]

    for request, answer, message in zip(requests, answers, expected, strict=True):
        if isinstance(answer, InferenceServerException):
            assert message
            assert message in answer.message()
        else:
            assert not message
            assert_same_pages(answer, alone[int(request["user_id"][0, 0])])
    # They did meet in batches, or this would show nothing.
    assert batches.executions < len(requests) / 2
