"""The proof of channels that look things up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from memory_material import N_ITEMS, SIZES, fitted
from numpy.typing import NDArray

from tools.channels.item_rows import ItemRows
from tools.channels.lookup_files import made_up_users, prove
from tools.training.export import GraphMismatch


@pytest.fixture
def channel() -> ItemRows:
    channel = fitted("item_knn")
    assert isinstance(channel, ItemRows)
    return channel


def test_made_up_users_are_from_those_without_a_history_to_those_who_saw_more_than_it_holds() -> None:
    history, seen = made_up_users(SIZES, N_ITEMS, rows=5)
    lengths = (seen > 0).sum(axis=1)
    assert lengths.tolist() == sorted(lengths.tolist())
    assert lengths[0] == 0
    assert lengths[-1] > SIZES.history
    assert (history[-1] > 0).all()
    for row in range(5):
        assert set(history[row][history[row] > 0].tolist()) <= set(seen[row].tolist())
        assert len(set(seen[row][seen[row] > 0].tolist())) == lengths[row]


@pytest.mark.parametrize("change", ["a score", "an item more", "an item less"])
def test_files_that_answer_otherwise_than_the_model_are_refused(
    channel: ItemRows, change: str, tmp_path: Path
) -> None:
    channel.write(tmp_path, SIZES)
    _, seen = made_up_users(SIZES, N_ITEMS, rows=5)
    matrix = channel.matrix.toarray()
    row = matrix[seen[-1][seen[-1] > 0]].sum(axis=0)
    row[seen[-1]] = 0
    found = np.argsort(-row)
    if change == "a score":
        matrix[:, found[0]] *= 1.01
    elif change == "an item less":
        matrix[:, found[1]] = 0
    else:
        matrix[:, 80] = 10
    changed = replace(channel, matrix=matrix)

    def score(history: NDArray[np.int32], own: NDArray[np.int32]) -> NDArray[np.float32]:
        return changed._score(history, own)

    with pytest.raises(GraphMismatch, match=r"the list of a user with .* items is not the channel's"):
        prove(tmp_path, SIZES, N_ITEMS, score)
