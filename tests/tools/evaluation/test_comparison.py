"""Questions and ranks that mean the same in two releases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tools.data.interactions import Interactions
from tools.evaluation import metrics
from tools.evaluation.comparison import Comparison, page_ranks, question_hashes
from tools.evaluation.evaluation import RERANK, Evaluation
from tools.evaluation.figures import compute_figures
from tools.evaluation.plots import PLOTS
from tools.evaluation.report import render_page, write_report

TARGETS = np.array([4, 0, 5], dtype=np.int32)


@pytest.fixture
def history(interactions: Callable[..., Interactions]) -> Interactions:
    return interactions([1, 2], [3], [], n_items=5)


def test_a_question_is_a_number_of_63_bits_and_nobody_without_a_target_has_one(history: Interactions) -> None:
    hashes = question_hashes(history, TARGETS)
    assert hashes.dtype == np.int64
    assert hashes[1] == -1
    assert (hashes[[0, 2]] > 2**40).all()
    assert hashes.tolist() == question_hashes(history, TARGETS).tolist()


def test_a_question_does_not_depend_on_rows_or_indices(history: Interactions) -> None:
    """The same people and items at other places of other tables are asked the same."""
    order = np.array([0, 3, 1, 5, 4, 2])  # index of each old index in the new catalogue
    wire_ids = np.full(6, -1, dtype=np.int64)
    wire_ids[order] = history.item_ids
    moved = Interactions(
        offsets=np.array([0, 0, 2, 3]),
        items=order[history.items].astype(np.int32),
        timestamps=history.timestamps,
        user_ids=history.user_ids[[2, 0, 1]],
        item_ids=wire_ids,
    )
    found = question_hashes(moved, order[TARGETS][[2, 0, 1]])
    assert found.tolist() == question_hashes(history, TARGETS)[[2, 0, 1]].tolist()


@pytest.mark.parametrize("what", ["user", "target", "earlier events", "their order", "one more"])
def test_whatever_is_asked_otherwise_is_another_question(
    history: Interactions, interactions: Callable[..., Interactions], what: str
) -> None:
    others = {
        "user": (replace(history, user_ids=history.user_ids + 1), TARGETS),
        "target": (history, np.array([3, 0, 5], dtype=np.int32)),
        "earlier events": (interactions([1, 3], [3], [], n_items=5), TARGETS),
        "their order": (interactions([2, 1], [3], [], n_items=5), TARGETS),
        "one more": (interactions([1, 2, 3], [3], [], n_items=5), TARGETS),
    }
    assert question_hashes(*others[what])[0] != question_hashes(history, TARGETS)[0]


def test_targets_of_other_users_are_refused(history: Interactions) -> None:
    with pytest.raises(ValueError, match=r"targets is \[2\]; it must be \[3\]"):
        question_hashes(history, TARGETS[:2])


def test_ranks_of_pages_in_wire_ids() -> None:
    pages = np.array([[7, 0, 9], [7, 0, -1], [5, -1, -1]])
    found = page_ranks(pages, np.array([9, 0, 7]))
    assert found.tolist() == [2, 1, metrics.ABSENT]


def test_padding_is_nobodys_target() -> None:
    with pytest.raises(ValueError, match="a target is below 0"):
        page_ranks(np.array([[-1]]), np.array([-1]))


def test_a_report_keeps_the_questions_of_users_with_a_target(
    make_evaluation: Callable[..., Evaluation], tmp_path: Path
) -> None:
    evaluation = make_evaluation()
    targets = evaluation.targets.copy()
    targets[:10] = 0
    compared = Comparison("ba9876543210", np.arange(50, dtype=np.int64))
    write_report(make_evaluation(targets=targets, questions=np.arange(60), compared=compared), tmp_path)
    with np.load(tmp_path / "ranks.npz") as kept:
        assert kept["question"].tolist() == list(range(10, 60))
    with np.load(tmp_path / "compared.npz", allow_pickle=False) as kept:
        assert str(kept["release"]) == "ba9876543210"
        assert kept["ranks"].tolist() == list(range(50))


def test_the_page_shows_what_it_was_compared_with(make_evaluation: Callable[..., Evaluation]) -> None:
    evaluation = make_evaluation()
    ours = metrics.ranks(evaluation.stages[RERANK], evaluation.targets)
    figures = compute_figures(make_evaluation(compared=Comparison("ba9876543210", ours)))
    row = figures["compared"]["metrics"]["ndcg_10"]
    assert row["ratio"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert row["mean"] == row["active"] == figures["headline"]["ndcg_10"]["mean"]
    page = render_page(figures, dict.fromkeys(PLOTS, "<svg/>"))
    assert "Compared with release ba9876543210" in page
    alone = render_page(compute_figures(evaluation), dict.fromkeys(PLOTS, "<svg/>"))
    assert "Compared with" not in alone


def test_ranks_of_other_users_are_refused(make_evaluation: Callable[..., Evaluation]) -> None:
    with pytest.raises(ValueError, match=r"compared.ranks has the shape \[3\]; expected \[60\]"):
        make_evaluation(compared=Comparison("ba9876543210", np.zeros(3, dtype=np.int64)))
    with pytest.raises(ValueError, match=r"questions has the shape \[3\]; expected \[60\]"):
        make_evaluation(questions=np.zeros(3, dtype=np.int64))
