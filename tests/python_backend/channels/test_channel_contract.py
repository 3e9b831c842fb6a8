"""What holds for every kind of channel that looks things up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from memory_material import KINDS, SIZES, UNMET, asks, fitted
from tritonrec_client.contract import Sizes

from python_backend.item_index import PADDING_SCORE
from python_backend.stages.retrieve import CHANNEL, Retrieve
from tools.channels.content import ContentVectors

INDEXED = "content, in an index"
USERS = ([5, 9, 13, 44], [], [70], list(range(1, 24, 2)), [12, 8, 4, 16, 20, 24, 28], [*range(30, 54)])


@pytest.fixture(scope="module", params=[*KINDS, INDEXED])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channel")
    write(kind, folder)
    return folder


@pytest.fixture(scope="module")
def stage(folder: Path) -> Retrieve:
    return Retrieve.open(folder, candidates=SIZES.candidates)


def write(kind: str, folder: Path) -> None:
    if kind == INDEXED:
        channel = fitted("content")
        assert isinstance(channel, ContentVectors)
        channel.write(folder, SIZES, index_from=1)
    else:
        fitted(kind).write(folder, SIZES)


def test_lists_have_the_width_and_types_of_the_contract(stage: Retrieve) -> None:
    answer = stage(asks(*USERS))
    assert answer["candidate"].shape == answer["retrieval_score"].shape == (len(USERS), SIZES.candidates)
    assert answer["candidate"].dtype == np.int32
    assert answer["retrieval_score"].dtype == np.float32


def test_no_seen_item_is_found_and_no_item_twice(stage: Retrieve) -> None:
    for seen, items in zip(USERS, stage(asks(*USERS))["candidate"], strict=True):
        found = items[items > 0].tolist()
        assert not set(found) & set(seen)
        assert len(set(found)) == len(found)


def test_a_user_with_a_history_is_given_something(stage: Retrieve) -> None:
    assert (stage(asks([5, 9, 13, 44]))["candidate"] > 0).sum() >= 10


def test_scores_go_down_and_equal_ones_are_in_the_order_of_their_items(stage: Retrieve) -> None:
    answer = stage(asks(*USERS))
    for items, scores in zip(answer["candidate"], answer["retrieval_score"], strict=True):
        count = int((items > 0).sum())
        steps = np.diff(scores[:count])
        assert (steps <= 0).all()
        assert (np.diff(items[:count])[steps == 0] > 0).all()


def test_places_without_an_item_come_last_with_the_score_of_padding(
    folder: Path,
) -> None:
    answer = Retrieve.open(folder, candidates=200)(asks(*USERS))
    for items, scores in zip(answer["candidate"], answer["retrieval_score"], strict=True):
        count = int((items > 0).sum())
        assert count < 80
        assert not items[count:].any()
        assert (scores[count:] == PADDING_SCORE).all()
        assert (scores[:count] > PADDING_SCORE).all()


def test_a_shorter_list_is_the_beginning_of_a_longer_one(folder: Path, stage: Retrieve) -> None:
    longer, shorter = stage(asks(*USERS)), Retrieve.open(folder, candidates=3)(asks(*USERS))
    for name in longer:
        assert np.array_equal(longer[name][:, :3], shorter[name])


def test_a_user_is_answered_as_in_a_batch(stage: Retrieve) -> None:
    together = stage(asks(*USERS))
    for row, seen in enumerate(USERS):
        alone = stage(asks(seen))
        for name in together:
            assert np.array_equal(together[name][row], alone[name][0])


def test_of_a_user_without_a_history_only_popularity_knows_something(kind: str, stage: Retrieve) -> None:
    answer = stage(asks([]))
    if kind == "popularity":
        assert (answer["candidate"] > 0).all()
    else:
        assert not answer["candidate"].any()
        assert (answer["retrieval_score"] == PADDING_SCORE).all()


def test_what_was_seen_before_the_history_stays_away(stage: Retrieve) -> None:
    history = [5, 9, 13, 44, 1, 2]
    found = stage(asks(history))["candidate"][0]
    before = found[:10].tolist()
    again = stage(asks([*before, *history]))
    assert (again["candidate"] > 0).any()
    assert not set(again["candidate"][0].tolist()) & set(before)


def test_order_repetition_and_places_of_seen_items_change_nothing(stage: Retrieve) -> None:
    asked = asks([5, 9, 13, 44, 61])
    asked["seen"][0] = 0
    asked["seen"][0, [2, 3, 7, 11, 12, 20]] = [61, 5, 44, 13, 9, 5]
    expected, answer = stage(asks([5, 9, 13, 44, 61])), stage(asked)
    for name in expected:
        assert np.array_equal(expected[name], answer[name])


@pytest.mark.parametrize("stranger", [-1, 81, 2**31 - 1])
def test_a_seen_item_that_the_release_does_not_know_changes_nothing(stage: Retrieve, stranger: int) -> None:
    asked = asks([5, 9, 13])
    asked["seen"][0, 5] = stranger
    expected, answer = stage(asks([5, 9, 13])), stage(asked)
    for name in expected:
        assert np.array_equal(expected[name], answer[name])


def test_items_that_nobody_has_met_are_found_by_their_content_alone(kind: str, folder: Path) -> None:
    found = Retrieve.open(folder, candidates=80)(asks(*USERS))["candidate"]
    assert np.isin(list(UNMET), found).any() == kind.startswith("content")


def test_the_same_fit_writes_the_same_bytes(kind: str, folder: Path, tmp_path: Path) -> None:
    write(kind, tmp_path)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()


def test_an_unknown_kind_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / CHANNEL).write_text('{"kind": "oracle"}')
    with pytest.raises(ValueError, match=r"kind is 'oracle'; it must be one of .*item_neighbours"):
        Retrieve.open(tmp_path, candidates=Sizes().candidates)
