from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tritonrec_client.contract import Sizes

from python_backend.item_index import PADDING_SCORE
from python_backend.release import Release
from python_backend.stages.blend import Blend

CANDIDATE = np.array([[3, 1, 2], [2, 5, 0]], np.int32)
ASKED = {
    "candidate": CANDIDATE,
    "rank_score_dnn": np.array([[1, 2, 3], [4, 5, PADDING_SCORE]], np.float32),
    "rank_score_lstm": np.array([[3, 2, 1], [0, -1, PADDING_SCORE]], np.float32),
}


def test_weights_of_a_half_give_the_mean() -> None:
    answer = Blend(["dnn", "lstm"], [0.5, 0.5])(ASKED)
    assert list(answer) == ["rank_score"]
    assert answer["rank_score"].dtype == np.float32
    assert answer["rank_score"].tolist() == [[2, 2, 2], [2, 2, PADDING_SCORE]]


def test_weights_and_bias_make_the_logit() -> None:
    answer = Blend(["lstm", "dnn"], [2, 1], bias=-1)(ASKED)["rank_score"]
    assert answer[0].tolist() == [6, 5, 4]


def test_padding_gets_the_lowest_score_whatever_the_weights_are() -> None:
    for weight in (0.0, 0.1, 3.0):
        answer = Blend(["dnn"], [weight], bias=7)(ASKED)["rank_score"]
        assert answer[1, 2] == PADDING_SCORE


@given(arrays(np.float32, (4, 6), elements=st.floats(-20, 20, width=32)), st.integers(1, 3))
def test_a_row_gets_in_a_batch_what_it_gets_alone(scores: np.ndarray, rankers: int) -> None:
    names = [f"r{number}" for number in range(rankers)]
    blend = Blend(names, [0.3] * rankers, bias=0.7)
    inputs = {"candidate": np.arange(24, dtype=np.int32).reshape(4, 6)}
    inputs |= {f"rank_score_{name}": scores * (number + 1) for number, name in enumerate(names)}
    together = blend(inputs)["rank_score"]
    for row in range(4):
        alone = blend({name: array[row : row + 1] for name, array in inputs.items()})["rank_score"]
        assert np.array_equal(alone[0], together[row])


def test_what_is_written_is_what_is_opened(tmp_path: Path) -> None:
    (tmp_path / "artifacts" / "blend").mkdir(parents=True)
    Blend(["lstm", "dnn"], [0.25, 0.75], bias=-0.5).write(tmp_path / "artifacts" / "blend")
    release = Release("0123456789ab", Sizes(candidates=3, results=2), tmp_path, "blend")
    opened = Blend.load(release, {})
    assert opened.rankers == ("lstm", "dnn")
    assert opened(ASKED)["rank_score"][0].tolist() == [1, 1.5, 2]


def test_a_blend_without_its_file_says_which_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"blend\.json"):
        Blend.open(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"weights": {"dnn": "much"}, "bias": 0}',
        '{"weights": {}, "bias": 0}',
        '{"weights": {"dnn": NaN}, "bias": 0}',
        json.dumps({"weights": {"dnn": 1.0}}),
    ],
)
def test_a_file_that_holds_no_weights_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "blend.json").write_text(content)
    with pytest.raises(ValueError, match=r"blend\.json: not the weights of a blend"):
        Blend.open(tmp_path)


def test_there_is_one_weight_for_each_ranker() -> None:
    with pytest.raises(ValueError, match=r"rankers are \['dnn', 'lstm'\] and weights \[1\]"):
        Blend(["dnn", "lstm"], [1])
    with pytest.raises(ValueError, match="by different names"):
        Blend(["dnn", "dnn"], [0.5, 0.5])
