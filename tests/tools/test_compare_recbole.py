from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.compare_recbole import compared, events_hash, lists_of, main, table, verdict
from tools.data.interactions import Interactions
from tools.data.split import leave_one_out
from tools.recbole.ours import all_items
from tools.recbole.trainings import TRAININGS, read_scores, write_events

ROOT = Path(__file__).parents[2]


def interactions(*users: list[int], n_items: int = 9) -> Interactions:
    lengths = [len(items) for items in users]
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([item for items in users for item in items], dtype=np.int32),
        timestamps=np.zeros(sum(lengths), dtype=np.int64),
        user_ids=np.arange(len(users), dtype=np.int64) + 70,
        item_ids=np.arange(-1, n_items, dtype=np.int64),
    )


def last_events(path: Path) -> list[int]:
    """Each user's item with the highest time, which is what RecBole's leave-one-out takes."""
    newest: dict[int, tuple[float, int]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        user, item, time = line.split("\t")
        newest[int(user)] = max(newest.get(int(user), (-1.0, 0)), (float(time), int(item)))
    return [newest[user][1] for user in sorted(newest)]


def test_recbole_holds_back_the_same_events_though_their_times_are_equal(tmp_path: Path) -> None:
    events = interactions([3, 1, 2], [9, 8, 7, 1])
    write_events(events, tmp_path)
    split = leave_one_out(events)
    assert last_events(tmp_path / "final" / "final.inter") == split.test.tolist()
    assert last_events(tmp_path / "choosing" / "choosing.inter") == split.validation.tolist()


def test_lists_are_of_unseen_items_best_first() -> None:
    histories = interactions([1, 2], [3, 4], n_items=5)
    scores = np.array([[9, 5, 4, 3, 2, 1], [9, 1, 2, 3, 4, -np.inf]], dtype=np.float32)
    assert lists_of(scores, histories, seed=0)[:, :4].tolist() == [[3, 4, 5, 0], [2, 1, 0, 0]]


def test_equal_scores_are_in_an_order_that_no_side_chose() -> None:
    histories = interactions([1], n_items=200)
    found = lists_of(np.zeros((1, 201), dtype=np.float32), histories, seed=0)[0, :199]
    assert sorted(found.tolist()) == list(range(2, 201))
    assert found.tolist() != sorted(found.tolist())


def test_a_better_list_is_called_better_and_the_same_list_within_noise() -> None:
    targets = np.full(50, 1, dtype=np.int32)
    good = np.tile(np.array([[1, 2, 3]], dtype=np.int32), (50, 1))
    poor = good[:, ::-1]
    assert verdict(compared(good, poor, targets)["ndcg_10"]["difference"]) == "better"
    assert verdict(compared(poor, good, targets)["ndcg_10"]["difference"]) == "worse"
    assert verdict(compared(good, good, targets)["ndcg_10"]["difference"]) == "within noise"


def test_the_table_names_both_models_once_and_all_figures() -> None:
    lists, targets = np.array([[1, 2]], dtype=np.int32), np.array([1], dtype=np.int32)
    row = {"recbole": "EASE", "ours": "ease", **compared(lists, lists, targets)}
    lines = table({"rows": [row]})
    assert lines[2].startswith("| EASE | ease | NDCG@10 | 1.0000 | 1.0000 | +0.0000 (+0.0000 … +0.0000)")
    assert [line.split(" | ")[2] for line in lines[2:]] == ["NDCG@10", "HR@10", "Recall@100", "Recall@500"]


def test_a_ranker_that_is_told_nothing_sees_every_unmet_item_once_and_no_score() -> None:
    events = interactions([3, 1, 2], [9, 8, 7, 1])
    examples = all_items(events, np.array([2, 6]), history=2, seed=0)
    found = [sorted(item for item in row if item) for row in examples.candidates.tolist()]
    assert found == [[2, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6]]
    assert np.take_along_axis(examples.candidates, examples.targets[:, None], 1).ravel().tolist() == [2, 1]
    assert examples.histories.tolist() == [[3, 1], [8, 7]]
    assert not examples.scores.any()


@pytest.mark.parametrize(
    ("wrong", "message"), [(np.zeros((2, 3)), r"\(2, 3\); it must be \(2, 4\)"), (None, "not numbers")]
)
def test_scores_that_are_not_of_these_users_and_items_are_refused(
    tmp_path: Path, wrong: np.ndarray | None, message: str
) -> None:
    path = tmp_path / "scores.npy"
    np.save(path, np.full((2, 4), np.nan) if wrong is None else wrong)
    with pytest.raises(ValueError, match=message):
        read_scores(path, users=2, items=3)


def test_other_events_are_other_work() -> None:
    assert events_hash(interactions([1, 2, 3])) != events_hash(interactions([1, 3, 2]))


def test_every_model_that_both_have_is_compared() -> None:
    assert {training.model: training.ours for training in TRAININGS} == {
        "NeuMF": "neumf",
        "GRU4Rec": "gru",
        "SASRec": "transformer",
        "ItemKNN": "item_knn",
        "EASE": "ease",
        "Pop": "popularity",
    }


def test_a_model_that_recbole_does_not_have_is_refused_before_anything_is_read() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--only", "Nobody"])
    assert stopped.value.code == 2


def test_recboles_side_runs_without_the_product() -> None:
    for name in ("train.py", "quicker.py"):
        source = (ROOT / "tools" / "recbole" / name).read_text(encoding="utf-8")
        assert "from tools" not in source
        assert "import tools" not in source
