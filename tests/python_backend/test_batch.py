"""Many requests become one array operation, and each gets its own answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonrec_client.contract import Sizes, release_to_wire

from python_backend.batch import BatchAnswerer, ContractError
from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, InvalidRequest, Stage, Unavailable

RELEASE = Release("0123456789ab", Sizes(candidates=4, results=2, history=3, seen=5, session=2), Path())


class Doubler(Stage):
    """A rank stage that needs no model: each score is the retrieval score, doubled."""

    name = "rank"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.score_dtype: type = np.float32
        self.failure: Exception | None = None

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        return cls()

    def check(self, inputs: Arrays) -> None:
        if np.isnan(inputs["retrieval_score"]).any():
            raise InvalidRequest("retrieval_score", "NaN", "finite numbers")

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        self.batches.append(len(inputs["retrieval_score"]))
        if self.failure:
            raise self.failure
        return {"rank_score": (inputs["retrieval_score"] * 2).astype(self.score_dtype)}


def request(*scores: float) -> dict[str, Array]:
    """A request with one row per score; its arrays are read-only, as Triton's may be."""
    rows = len(scores)
    arrays = {
        "user_features": np.zeros((rows, 8), np.int32),
        "history": np.zeros((rows, 3), np.int32),
        "candidate": np.ones((rows, 4), np.int32),
        "retrieval_score": np.repeat(np.array(scores, np.float32).reshape(rows, 1), 4, axis=1),
    }
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


@pytest.fixture
def stage() -> Doubler:
    return Doubler()


def test_all_requests_of_one_execution_are_one_call_of_the_stage(stage: Doubler) -> None:
    BatchAnswerer(stage, RELEASE)([request(1), request(2, 3), request(4)])

    assert stage.batches == [4]


def test_each_request_gets_the_rows_it_asked_for(stage: Doubler) -> None:
    first, second = BatchAnswerer(stage, RELEASE)([request(1), request(2, 3)])

    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["rank_score"].tolist() == [[2.0] * 4]
    assert second["rank_score"].tolist() == [[4.0] * 4, [6.0] * 4]


def test_every_row_says_which_release_it_comes_from(stage: Doubler) -> None:
    (answer,) = BatchAnswerer(stage, RELEASE)([request(1, 2)])

    assert isinstance(answer, dict)
    assert answer["rank_release"].dtype == np.int64
    assert answer["rank_release"].tolist() == [[release_to_wire("0123456789ab")]] * 2


def test_a_bad_request_is_refused_alone(stage: Doubler) -> None:
    good, bad, other = BatchAnswerer(stage, RELEASE)([request(1), request(np.nan), request(2)])

    assert isinstance(good, dict)
    assert isinstance(other, dict)
    assert isinstance(bad, InvalidRequest)
    assert str(bad) == "retrieval_score: found NaN; allowed is finite numbers"
    assert other["rank_score"].tolist() == [[4.0] * 4]
    assert stage.batches == [2]


def test_the_stage_is_not_called_when_nothing_valid_is_left(stage: Doubler) -> None:
    answers = BatchAnswerer(stage, RELEASE)([request(np.nan), request(np.nan)])

    assert all(isinstance(answer, InvalidRequest) for answer in answers)
    assert stage.batches == []


def test_an_empty_batch_is_refused_by_the_name_of_its_field(stage: Doubler) -> None:
    empty, good = BatchAnswerer(stage, RELEASE)([request(), request(1)])

    assert str(empty) == "user_features: found a batch of 0 rows; allowed is 1 row or more"
    assert isinstance(good, dict)


def test_inputs_of_different_lengths_are_refused_before_they_shift_anybody_elses_rows(stage: Doubler) -> None:
    uneven = request(1) | {"candidate": np.ones((2, 4), np.int32)}
    refused, good = BatchAnswerer(stage, RELEASE)([uneven, request(1)])

    assert str(refused) == "candidate: found 2 rows; allowed is as many as user_features has: 1"
    assert isinstance(good, dict)


def test_a_missing_input_is_refused_by_name(stage: Doubler) -> None:
    incomplete = request(1)
    del incomplete["history"]
    (refused,) = BatchAnswerer(stage, RELEASE)([incomplete])

    assert str(refused) == "history: found nothing; allowed is one tensor; every input is required"


def test_a_stage_that_breaks_the_contract_is_a_fault_of_the_code(stage: Doubler) -> None:
    stage.score_dtype = np.float64

    with pytest.raises(
        ContractError, match=r"gave float64 \[1, 4\] as rank_score; the contract says float32 \[1, 4\]"
    ):
        BatchAnswerer(stage, RELEASE)([request(1)])


def test_a_failing_stage_is_not_mistaken_for_a_bad_request(stage: Doubler) -> None:
    stage.failure = ZeroDivisionError("a fault")

    with pytest.raises(ZeroDivisionError):
        BatchAnswerer(stage, RELEASE)([request(1)])


def test_what_a_stage_cannot_answer_now_is_said_to_every_valid_request(stage: Doubler) -> None:
    stage.failure = Unavailable("the disk is full")
    first, bad, second = BatchAnswerer(stage, RELEASE)([request(1), request(np.nan), request(2)])

    assert first is stage.failure
    assert second is stage.failure
    assert isinstance(bad, InvalidRequest)


@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32) | st.just(float("nan")), max_size=4), min_size=1, max_size=8
    )
)
def test_an_answer_does_not_depend_on_who_else_is_in_the_batch(batch: list[list[float]]) -> None:
    answerer = BatchAnswerer(Doubler(), RELEASE)
    requests = [request(*scores) for scores in batch]

    for alone, together in zip([answerer([each])[0] for each in requests], answerer(requests), strict=True):
        if isinstance(alone, InvalidRequest):
            assert str(alone) == str(together)
        else:
            assert isinstance(together, dict)
            assert all(np.array_equal(alone[name], together[name]) for name in alone)
