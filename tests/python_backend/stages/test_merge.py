"""merge: several channels' lists become one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonrec_client.contract import FoundBy

from python_backend.item_index import PADDING_SCORE
from python_backend.stages.merge import Merge, Voice, Weights

K = 4
RANKS = [Voice("ease", FoundBy.EASE, Weights(reciprocal=1)), Voice("gru", FoundBy.GRU, Weights(reciprocal=2))]


def lists(ease: list[list[int]], gru: list[list[int]]) -> dict[str, np.ndarray]:
    """Both channels' lists for a batch; scores fall from 0."""
    arrays: dict[str, np.ndarray] = {}
    for name, rows in (("ease", ease), ("gru", gru)):
        items = np.array(rows, np.int32).reshape(len(rows), -1)
        score = np.broadcast_to(-np.arange(items.shape[1], dtype=np.float32), items.shape)
        arrays[f"candidate_{name}"] = items
        arrays[f"retrieval_score_{name}"] = np.where(items == 0, np.float32(PADDING_SCORE), score)
    return arrays


def test_ranks_are_added_up_as_reciprocal_rank_fusion_says() -> None:
    answer = Merge(RANKS, 60.0, K)(lists([[7, 3, 5]], [[3, 9, 7]]))
    word = {7: 1 / 61 + 2 / 63, 3: 1 / 62 + 2 / 61, 5: 1 / 63, 9: 2 / 62}
    order = sorted(word, key=lambda item: -word[item])
    assert answer["candidate"].tolist() == [order]
    logits = np.array([word[item] for item in order])
    expected = logits - np.log(np.exp(logits).sum())
    assert answer["retrieval_score"][0] == pytest.approx(expected, abs=1e-6)


def test_an_item_is_there_once_with_the_channel_that_counted_most() -> None:
    answer = Merge(RANKS, 60.0, K)(lists([[7, 3, 5]], [[3, 9, 7]]))
    found = dict(zip(answer["candidate"][0].tolist(), answer["candidate_channel"][0].tolist(), strict=True))
    assert found == {3: FoundBy.GRU, 9: FoundBy.GRU, 7: FoundBy.GRU, 5: FoundBy.EASE}


def test_a_learned_word_rests_on_the_channel_s_own_score() -> None:
    voices = [
        Voice("ease", FoundBy.EASE, Weights(found=0.5, above=1.0)),
        Voice("gru", FoundBy.GRU, Weights(found=0.1, closeness=-0.01)),
    ]
    asked = lists([[7, 3, 0]], [[5, 0, 0]])
    answer = Merge(voices, 60.0, K)(asked)
    # 7 is one above the lowest of its list, 3 is the lowest itself.
    assert answer["candidate"].tolist() == [[7, 3, 5, 0]]
    word = np.array([1.5, 0.5, 0.1])
    assert answer["retrieval_score"][0, :3] == pytest.approx(word - np.log(np.exp(word).sum()), abs=1e-6)


def test_where_no_channel_finds_anything_the_list_is_padding() -> None:
    answer = Merge(RANKS, 60.0, K)(lists([[0, 0, 0]], [[0, 0, 0]]))
    assert answer["candidate"].tolist() == [[0] * K]
    assert answer["retrieval_score"].tolist() == [[PADDING_SCORE] * K]
    assert answer["candidate_channel"].tolist() == [[FoundBy.NONE] * K]


def test_channels_that_find_less_than_k_leave_padding() -> None:
    answer = Merge(RANKS, 60.0, 9)(lists([[7, 3, 5]], [[3, 9, 7]]))
    assert (answer["candidate"][0] > 0).tolist() == [True] * 4 + [False] * 5
    assert {name: array.shape for name, array in answer.items()} == dict.fromkeys(answer, (1, 9))


def test_what_was_written_merges_alike(tmp_path: Path) -> None:
    merge = Merge(RANKS, 30.0, K)
    merge.write(tmp_path)
    asked = lists([[7, 3, 5]], [[3, 9, 7]])
    again = Merge.open(tmp_path, K)(asked)
    assert all(np.array_equal(array, again[name]) for name, array in merge(asked).items())


def test_a_file_that_is_no_merge_s_is_refused_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "merge.json").write_text('{"voices": [{"name": "ease"}], "constant": 60}')
    with pytest.raises(ValueError, match=r"merge\.json: not a merge's file"):
        Merge.open(tmp_path, K)


@st.composite
def found(draw: st.DrawFn) -> list[int]:
    """A list of three, no item twice, padding at the end."""
    items = draw(st.lists(st.integers(1, 8), unique=True, max_size=3))
    return [*items, *[0] * (3 - len(items))]


@given(st.lists(st.tuples(found(), found()), min_size=1, max_size=4))
def test_every_found_item_comes_once_best_first_and_a_batch_is_its_rows(
    rows: list[tuple[list[int], list[int]]],
) -> None:
    merge = Merge(RANKS, 60.0, 6)
    asked = lists([ease for ease, _ in rows], [gru for _, gru in rows])
    answer = merge(asked)
    for row, (ease, gru) in enumerate(rows):
        kept = [item for item in answer["candidate"][row].tolist() if item]
        assert sorted(kept) == sorted({*ease, *gru} - {0})
        scores = answer["retrieval_score"][row, : len(kept)]
        assert (np.diff(scores) <= 0).all()
        if kept:
            assert np.exp(scores).sum() == pytest.approx(1, abs=1e-5)
        alone = merge({name: array[row : row + 1] for name, array in asked.items()})
        assert all(np.array_equal(alone[name][0], array[row]) for name, array in answer.items())


def spelled_out(asked: dict[str, np.ndarray], voices: list[Voice], row: int) -> list[tuple[int, float, int]]:
    """Item, sum of words and loudest channel's code, best first, of equals the smallest item."""
    words: dict[int, list[tuple[float, int]]] = {}
    for voice in voices:
        items, scores = asked[f"candidate_{voice.name}"][row], asked[f"retrieval_score_{voice.name}"][row]
        for rank, (item, score) in enumerate(zip(items.tolist(), scores.tolist(), strict=True)):
            if item:
                weights, lowest = voice.weights, scores[items > 0].min()
                word = weights.reciprocal / (60 + rank + 1) + weights.found
                word += weights.closeness * np.log1p(rank) + weights.above * (score - lowest)
                words.setdefault(item, []).append((word, voice.code))
    sums = ((item, sum(word for word, _ in said), max(said)[1]) for item, said in words.items())
    return sorted(sums, key=lambda each: (-each[1], each[0]))


@pytest.mark.parametrize("items", [60, 10**6])
def test_many_channels_of_a_large_catalogue_are_added_up_as_spelled_out(items: int) -> None:
    random = np.random.default_rng(items)
    voices, asked = [], {}
    for code in range(1, 8):
        weights = Weights(*random.normal(size=2), -random.random(), random.random())
        voices.append(Voice(str(code), code, weights))
        quota = int(random.integers(1, 50))
        found = np.stack([random.choice(items, quota, replace=False) + 1 for _ in range(20)]).astype(np.int32)
        found[np.arange(quota) >= random.integers(0, quota + 1, (20, 1))] = 0
        asked[f"candidate_{code}"] = found
        scores = -np.sort(random.exponential(3, found.shape)).astype(np.float32)
        asked[f"retrieval_score_{code}"] = np.where(found, scores, np.float32(PADDING_SCORE))
    answer = Merge(voices, 60.0, 40)(asked)
    for row in range(20):
        wanted = spelled_out(asked, voices, row)[:40]
        there = len(wanted)
        assert answer["candidate"][row].tolist() == [item for item, _, _ in wanted] + [0] * (40 - there)
        assert answer["candidate_channel"][row, :there].tolist() == [code for _, _, code in wanted]
        logits = np.array([value for _, value, _ in wanted])
        expected = logits - np.log(np.exp(logits).sum())
        assert answer["retrieval_score"][row, :there] == pytest.approx(expected, abs=1e-4)
