"""Perturbed histories: what they change, and that they give nothing away."""

from __future__ import annotations

import numpy as np
import pytest

from tools.evaluation.perturbations import (
    PERTURBATIONS,
    Perturbation,
    dropped,
    newest_replaced,
    replaced,
    shuffled,
)

N_ITEMS, USERS, LENGTH = 40, 400, 20


@pytest.fixture(scope="module")
def histories() -> np.ndarray:
    """Histories of every length, of items without repetition."""
    random = np.random.default_rng(0)
    found = np.stack([random.permutation(N_ITEMS)[:LENGTH] + 1 for _ in range(USERS)]).astype(np.int32)
    found[np.arange(LENGTH)[::-1] >= random.integers(0, LENGTH + 1, USERS)[:, None]] = 0
    return found


TARGETS = np.random.default_rng(1).integers(0, N_ITEMS + 1, USERS).astype(np.int32)


def changed_by(perturb: Perturbation, histories: np.ndarray, seed: int = 0) -> np.ndarray:
    return perturb(histories, TARGETS, N_ITEMS, np.random.default_rng(seed))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_histories_stay_histories(histories: np.ndarray, name: str) -> None:
    before = histories.copy()
    found = changed_by(PERTURBATIONS[name], histories)
    assert found.shape == histories.shape
    assert found.dtype == np.int32
    assert ((found >= 0) & (found <= N_ITEMS)).all()
    assert (np.diff((found != 0).astype(int), axis=1) >= 0).all()  # padding is in front
    assert not np.array_equal(found, histories)
    np.testing.assert_array_equal(histories, before)
    np.testing.assert_array_equal(found, changed_by(PERTURBATIONS[name], histories))
    assert not np.array_equal(found, changed_by(PERTURBATIONS[name], histories, seed=1))


def test_a_fifth_is_replaced_where_it_stands(histories: np.ndarray) -> None:
    found = changed_by(replaced, histories)
    assert ((found != 0) == (histories != 0)).all()
    assert (found != histories)[histories != 0].mean() == pytest.approx(0.2, abs=0.02)


def test_a_fifth_is_dropped_and_the_order_stays(histories: np.ndarray) -> None:
    found = changed_by(dropped, histories)
    assert (found != 0).sum() / (histories != 0).sum() == pytest.approx(0.8, abs=0.02)
    for row, whole in zip(found, histories, strict=True):
        left = row[row != 0].tolist()
        assert [item for item in whole.tolist() if item in left] == left


def test_shuffled_are_the_same_items(histories: np.ndarray) -> None:
    np.testing.assert_array_equal(
        np.sort(changed_by(shuffled, histories), axis=1), np.sort(histories, axis=1)
    )


def test_only_the_newest_is_replaced(histories: np.ndarray) -> None:
    found = changed_by(newest_replaced, histories)
    np.testing.assert_array_equal(found[:, :-1], histories[:, :-1])
    known = histories[:, -1] != 0
    assert (found[:, -1] != histories[:, -1])[known].mean() > 0.9
    assert not found[~known, -1].any()


@pytest.mark.parametrize("perturb", [replaced, newest_replaced])
def test_the_target_is_never_put_into_a_history(perturb: Perturbation) -> None:
    targets = np.tile(np.arange(1, 4, dtype=np.int32), 500)
    histories = np.full((1500, 4), 9, np.int32)
    found = perturb(histories, targets, 3, np.random.default_rng(0))
    assert not (found == targets[:, None]).any()
    assert set(np.unique(found)) == {1, 2, 3, 9}
