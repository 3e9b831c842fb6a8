"""rank computes a large batch in parts that fit a processor's cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_graphs import write_rank
from tritonrec_client.contract import MODELS, Sizes

from python_backend.graph import Graph
from python_backend.stages.rank import ROWS_AT_ONCE, Rank

SIZES = Sizes(candidates=6, results=3, history=4, seen=5, session=2, user_features=1)


@pytest.fixture
def rank(tmp_path: Path) -> Rank:
    write_rank(tmp_path / "rank.onnx", SIZES)
    return Rank(Graph(tmp_path / "rank.onnx"))


@pytest.mark.parametrize("rows", [1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 5 * ROWS_AT_ONCE + 3])
def test_a_batch_gets_what_its_rows_get_one_by_one(rank: Rank, rows: int) -> None:
    random = np.random.default_rng(rows)
    types = {"INT32": np.int32, "FP32": np.float32}
    inputs = {
        tensor.name: random.integers(0, 6, (rows, tensor.resolve(SIZES))).astype(types[tensor.dtype])
        for tensor in MODELS["rank"].inputs
    }
    together = rank(inputs)["rank_score"]
    alone = [rank({name: array[row : row + 1] for name, array in inputs.items()}) for row in range(rows)]

    assert together.dtype == np.float32
    assert together.shape == (rows, SIZES.candidates)
    assert np.array_equal(together, np.concatenate([answer["rank_score"] for answer in alone]))
