"""A graph for TensorRT is held against PyTorch in float32 before it is part of a release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from plan_release import features_of, models_of
from torch import Tensor, nn
from toy_release import SIZES

from tools.checks import CheckFailed
from tools.plans.export import check_plan_graph, export_plan_graphs
from tools.plans.graphs import Graphs
from tools.releases.profiles import gpu_facts, most_rows
from tools.serving.model_files import RepositoryError
from tools.serving.repository import write_release_models
from tools.training.candidates import PADDING_SCORE
from tools.training.export import GraphMismatch

ITEMS = [[7, 3, 9, 0]]
SCORES = [[-1.0, -2.0, -4.0, PADDING_SCORE]]


class Answering(nn.Module):
    """A model that gives these tensors, whatever it is asked."""

    def __init__(self, *answers: Tensor) -> None:
        super().__init__()
        self.answers = answers

    def forward(self) -> tuple[Tensor, ...]:
        return self.answers


def lists(items: list[list[int]], scores: list[list[float]]) -> dict[str, NDArray[Any]]:
    return {
        "candidate": np.array(items, np.int32),
        "retrieval_score": np.array(scores, np.float32),
    }


def check(found: dict[str, NDArray[Any]], tolerance: float = 0.01) -> None:
    wanted = lists(ITEMS, SCORES)
    reference = Answering(*(torch.from_numpy(wanted[name]) for name in found))
    graph: Callable[..., Any] = lambda inputs: found  # noqa: E731
    check_plan_graph(reference, graph, {}, tolerance)  # type: ignore[arg-type]


def test_the_same_list_passes_in_any_order_of_ties() -> None:
    check(lists(ITEMS, SCORES))
    check(lists([[3, 7, 9, 0]], [[-1.99, -1.01, -4.02, PADDING_SCORE]]))


def test_another_item_may_stand_in_for_one_that_ties_for_the_last_place() -> None:
    check(lists([[7, 3, 5, 0]], [[-1.0, -2.0, -4.03, PADDING_SCORE]]))


@pytest.mark.parametrize(
    ("items", "scores", "complaint"),
    [
        ([[7, 3, 5, 0]], [[-1.0, -2.0, -3.5, PADDING_SCORE]], "item 5 is among those of row 0 with -3.5"),
        ([[3, 9, 5, 0]], [[-2.0, -4.0, -4.0, PADDING_SCORE]], "item 7 is not among those of row 0"),
        ([[7, 3, 9, 0]], [[-1.0, -2.5, -4.0, PADDING_SCORE]], "item 3 is among those of row 0 with -2.5"),
        ([[7, 3, 0, 0]], [[-1.0, -2.0, PADDING_SCORE, PADDING_SCORE]], "2 in row 0; expected 3"),
        ([[7, 3, 9, 0]], [[-1.0, float("nan"), -4.0, PADDING_SCORE]], "item 3 is among .* with nan"),
    ],
)
def test_another_list_is_refused_with_the_item_that_differs(
    items: list[list[int]], scores: list[list[float]], complaint: str
) -> None:
    with pytest.raises(GraphMismatch, match=complaint):
        check(lists(items, scores))


def test_scores_of_the_ranker_may_be_off_by_a_share_of_the_greatest() -> None:
    wanted = torch.tensor(SCORES)
    off = np.array([[-1.03, -2.03, -4.03, PADDING_SCORE]], np.float32)

    check_plan_graph(Answering(wanted), lambda inputs: {"rank_score": off}, {}, 0.01)  # type: ignore[arg-type]
    with pytest.raises(GraphMismatch, match=r"off by 0\.0075 of the greatest in the row; allowed is 0\.005"):
        check_plan_graph(Answering(wanted), lambda inputs: {"rank_score": off}, {}, 0.005)  # type: ignore[arg-type]


def test_a_score_of_the_ranker_where_padding_should_be_is_refused() -> None:
    found = np.array([[-1.0, -2.0, -4.0, -5.0]], np.float32)

    with pytest.raises(GraphMismatch, match="padding is not where it should be"):
        check_plan_graph(Answering(torch.tensor(SCORES)), lambda inputs: {"rank_score": found}, {}, 0.01)  # type: ignore[arg-type]


def test_another_type_than_the_contract_is_refused() -> None:
    found = lists(ITEMS, SCORES)
    found["candidate"] = found["candidate"].astype(np.int64)

    with pytest.raises(GraphMismatch, match=r"candidate: int64 \(1, 4\); expected int32"):
        check(found)


def test_what_a_manifest_says_is_what_plans_are_made_by(graphs: dict[str, Graphs], tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_release_models(SIZES, models)

    assert gpu_facts("int8", 100, models) == {"precision": "int8", "optimum_batch": 64, "most_rows": 64}
    assert (graphs["int8"].precision, graphs["int8"].most_rows) == ("int8", most_rows(models))
    config = models / "rank" / "configs" / "gpu.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 64", "max_batch_size: 32"))
    with pytest.raises(RepositoryError, match="max_batch_size differs between the stages of gpu"):
        most_rows(models)


def test_more_candidates_than_tensorrt_selects_are_refused_before_anything_is_exported(
    tmp_path: Path,
) -> None:
    features = features_of(50)
    retriever, ranker = models_of(features)
    sizes = replace(SIZES, candidates=4000)

    with pytest.raises(CheckFailed, match=r"profile gpu: candidates is 4000; .* at most 3840"):
        export_plan_graphs(
            tmp_path,
            features=features,
            retriever=retriever,
            ranker=ranker,
            sizes=sizes,
            precision="fp16",
        )
