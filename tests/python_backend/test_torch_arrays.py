"""A stage that computes with PyTorch's tensors is batched like every other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from tritonrec_client.contract import Sizes, release_to_wire

from python_backend.arrays import NUMPY
from python_backend.batch import BatchAnswerer, ContractError
from python_backend.gpu.arrays import TORCH
from python_backend.release import Release
from python_backend.stages.base import Arrays, InvalidRequest, Stage

SIZES = Sizes(candidates=4, results=2, history=3, seen=5, session=2, user_features=2)
RELEASE = Release("0123456789ab", SIZES, Path())


class Counter(Stage):
    """Candidates are the history's last item and those after it; scores are their opposites."""

    name = "retrieve_and_rank"
    arrays = TORCH
    score_dtype = torch.float32

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        return cls()

    def __call__(self, inputs: Arrays) -> dict[str, Any]:
        assert all(isinstance(array, torch.Tensor) for array in inputs.values())
        candidate = inputs["history"][:, -1:] + torch.arange(4, dtype=torch.int32)
        score = (-candidate).to(self.score_dtype)
        return {"candidate": candidate, "retrieval_score": score, "rank_score": score}


def request(*items: int) -> dict[str, Any]:
    """A request with a row for each of `items`, the last one of its history."""
    rows = len(items)
    return {
        "user_features": torch.zeros((rows, 2), dtype=torch.int32),
        "history": torch.tensor([[0, 0, item] for item in items], dtype=torch.int32),
        "seen": torch.zeros((rows, 5), dtype=torch.int32),
    }


def test_requests_are_put_together_and_their_answers_taken_apart() -> None:
    answers = BatchAnswerer(Counter(), RELEASE)([request(1, 2), request(7)])

    assert [answer["candidate"][:, 0].tolist() for answer in answers] == [[1, 2], [7]]  # type: ignore[index,call-overload]
    for answer in answers:
        assert isinstance(answer, dict)
        for array in answer.values():
            assert isinstance(array, torch.Tensor)
            assert array.is_contiguous()
        for stage in ("retrieve", "rank"):
            assert set(answer[f"{stage}_release"][:, 0].tolist()) == {release_to_wire(RELEASE.name)}


def test_a_bad_request_is_refused_alone() -> None:
    bad = {name: array for name, array in request(3).items() if name != "seen"}
    first, second = BatchAnswerer(Counter(), RELEASE)([bad, request(5)])

    assert isinstance(first, InvalidRequest)
    assert isinstance(second, dict)
    assert second["candidate"][0].tolist() == [5, 6, 7, 8]


def test_another_dtype_than_the_contracts_is_a_fault_of_the_stage() -> None:
    stage = Counter()
    stage.score_dtype = torch.float16
    with pytest.raises(ContractError, match=r"retrieval_score; the contract says torch.float32 \[1, 4\]"):
        BatchAnswerer(stage, RELEASE)([request(1)])


def test_both_libraries_know_every_dtype_of_the_contract() -> None:
    assert TORCH.dtypes.keys() == NUMPY.dtypes.keys()
    for name, dtype in TORCH.dtypes.items():
        assert torch.empty(0, dtype=dtype).numpy().dtype == NUMPY.dtypes[name]


def test_what_goes_through_dlpack_is_the_same_memory() -> None:
    class Tensor:
        """As much of the Python backend's class as is used here."""

        def __init__(self, name: str, array: Any) -> None:
            self.name, self.array = name, array

        @classmethod
        def from_dlpack(cls, name: str, array: Any) -> Tensor:
            return cls(name, np.from_dlpack(array))

        def to_dlpack(self) -> Any:
            return self.array.__dlpack__()

    values = np.arange(6, dtype=np.int32).reshape(2, 3)
    array = TORCH.from_triton(Tensor("history", values))
    values[1, 2] = 77
    back = TORCH.to_triton(Tensor, "history", array)

    assert array.tolist() == [[0, 1, 2], [3, 4, 77]]
    assert (back.name, back.array.ctypes.data) == ("history", values.ctypes.data)
