from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import dcg_score, ndcg_score, precision_recall_fscore_support

from tools.evaluation import metrics
from tools.evaluation.metrics import ABSENT

Array = npt.NDArray[Any]

RANKED = np.array([[5, 3, 1], [2, 4, 0], [1, 2, 3]], dtype=np.int32)
N_ITEMS = 8


@st.composite
def lists_and_targets(draw: st.DrawFn) -> tuple[Array, Array]:
    """Lists without repetitions, some short (padded with 0), and a target or none per user."""
    users, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    ranked = np.zeros((users, width), dtype=np.int32)
    for row in ranked:
        items = draw(st.lists(st.integers(1, N_ITEMS), unique=True, max_size=width))
        row[: len(items)] = items
    targets = draw(st.lists(st.integers(0, N_ITEMS), min_size=users, max_size=users))
    return ranked, np.array(targets, dtype=np.int32)


def textbook_ndcg(ranked: list[int], relevant: set[int], k: int) -> float:
    """NDCG for any number of relevant items, written from its definition."""
    gained = sum(
        1 / math.log2(place + 1) for place, item in enumerate(ranked[:k], start=1) if item in relevant
    )
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(len(relevant), k) + 1))
    return gained / ideal


def test_a_rank_is_the_targets_place_counted_from_0() -> None:
    assert metrics.ranks(RANKED, np.array([3, 2, 3])).tolist() == [1, 0, 2]


def test_an_absent_target_is_beyond_every_cut_off_however_short_the_list() -> None:
    found = metrics.ranks(RANKED, np.array([8, 8, 1]))
    assert found.tolist() == [ABSENT, ABSENT, 0]
    for k in (3, 500):
        assert metrics.recall(found, k).tolist() == [0, 0, 1]
        assert metrics.ndcg(found, k).tolist() == [0, 0, 1]
        assert metrics.mrr(found, k).tolist() == [0, 0, 1]


def test_users_without_a_target_are_left_out_even_where_lists_are_padded() -> None:
    assert metrics.ranks(RANKED, np.array([5, 0, 2])).tolist() == [0, 1]


def test_lists_of_no_places_hold_no_target() -> None:
    assert metrics.ranks(np.zeros((2, 0), dtype=np.int32), np.array([1, 2])).tolist() == [ABSENT, ABSENT]


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\) and targets \(2,\)"):
        metrics.ranks(RANKED, np.array([1, 2]))


def test_accuracy_by_hand() -> None:
    found = np.array([0, 1, 2, 9, 10, ABSENT])
    assert metrics.ndcg(found, 10) == pytest.approx([1, 1 / math.log2(3), 0.5, 1 / math.log2(11), 0, 0])
    assert metrics.hit_rate(found, 10).tolist() == [1, 1, 1, 1, 0, 0]
    assert metrics.mrr(found, 10) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 10, 0, 0])


@given(lists_and_targets(), st.integers(1, 8))
def test_accuracy_agrees_with_the_textbook(data: tuple[Array, Array], k: int) -> None:
    ranked, targets = data
    found = metrics.ranks(ranked, targets)
    pairs = [(row.tolist(), int(target)) for row, target in zip(ranked, targets, strict=True) if target]
    assert metrics.ndcg(found, k) == pytest.approx([textbook_ndcg(row, {target}, k) for row, target in pairs])
    assert metrics.recall(found, k).tolist() == [float(target in row[:k]) for row, target in pairs]
    assert metrics.mrr(found, k) == pytest.approx(
        [1 / (row.index(target) + 1) if target in row[:k] else 0 for row, target in pairs]
    )


@given(lists_and_targets(), st.integers(1, 8))
@settings(max_examples=30)
def test_accuracy_agrees_with_scikit_learn(data: tuple[Array, Array], k: int) -> None:
    ranked, targets = data
    found = metrics.ranks(ranked, targets)
    for at, user in enumerate(np.flatnonzero(targets)):
        items = np.arange(1, N_ITEMS + 1)
        relevant = (items == targets[user]).astype(float)[None]
        # scikit-learn takes scores of all items. What is not in the list comes after all that is, the target
        # last: it spreads the gain of equal scores over their places.
        places = {item: -float(place) for place, item in enumerate(ranked[user].tolist()) if item}
        scores = np.array([[places.get(item, -100.0 - (item == targets[user])) for item in items.tolist()]])
        if targets[user] not in places:
            scores, relevant = np.c_[scores, np.full((1, k), -50.0)], np.c_[relevant, np.zeros((1, k))]
        assert metrics.dcg(found, k, gain=3.0)[at] == pytest.approx(dcg_score(3 * relevant, scores, k=k))
        assert metrics.ndcg(found, k)[at] == pytest.approx(ndcg_score(relevant, scores, k=k))
        # A list that is shorter than k is filled with wrong items, which is what its empty places are.
        shown = ranked[user, :k][ranked[user, :k] > 0].tolist()
        pool = [*items.tolist(), *range(-k, 0)]
        filled = [*shown, *range(-(k - len(shown)), 0)]
        precision, recall, f1, _ = precision_recall_fscore_support(
            [item == targets[user] for item in pool],
            [item in filled for item in pool],
            average="binary",
            zero_division=0,
        )
        assert metrics.precision(found, k)[at] == pytest.approx(precision)
        assert metrics.recall(found, k)[at] == pytest.approx(recall)
        assert metrics.f1(found, k)[at] == pytest.approx(f1)


@given(lists_and_targets(), st.integers(1, 8))
def test_accuracy_grows_with_k_and_recall_is_its_upper_bound(data: tuple[Array, Array], k: int) -> None:
    found = metrics.ranks(*data)
    for metric in (metrics.ndcg, metrics.hit_rate, metrics.mrr):
        assert np.all(metric(found, k) <= metric(found, k + 1))
        assert np.all(metric(found, k) <= metrics.recall(found, k))


def test_coverage_counts_real_items_once_and_only_within_k() -> None:
    assert metrics.coverage(RANKED, 3, n_items=5) == 1.0
    assert metrics.coverage(RANKED, 1, n_items=6) == pytest.approx(3 / 6)
    assert metrics.coverage(np.zeros((2, 3), dtype=np.int32), 3, n_items=4) == 0.0


def test_novelty_is_in_bits_and_ignores_padding() -> None:
    popularity = np.array([0, 4, 2, 1, 1, 0])  # 8 events
    lists = np.array([[1, 2], [3, 0], [5, 0], [0, 0]])
    # Items 1 and 2 tell 1 and 2 bits; an unused item counts as used once; an empty list has no novelty.
    assert metrics.novelty(lists, 2, popularity) == pytest.approx([1.5, 3.0, 3.0, np.nan], nan_ok=True)
    assert metrics.novelty(lists, 1, popularity)[0] == pytest.approx(1.0)


def test_popularity_percentiles_share_a_mean_position_between_equals() -> None:
    percentile = metrics.popularity_percentile(np.array([0, 7, 1, 1, 3]))
    assert np.isnan(percentile[0])
    assert percentile[1:] == pytest.approx([87.5, 25.0, 25.0, 62.5])


def test_popularity_bias_holds_lists_against_histories() -> None:
    popularity = np.array([0, 7, 1, 1, 3])
    bias = metrics.popularity_bias(np.array([[1, 2], [1, 0]]), 2, popularity)
    assert bias.recommended == pytest.approx((87.5 + 25 + 87.5) / 3)
    assert bias.history == pytest.approx((7 * 87.5 + 2 * 25 + 3 * 62.5) / 12)
    assert bias.gini == pytest.approx(metrics.gini(np.array([2, 1, 0, 0])))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any))
def test_gini_is_half_the_mean_difference_over_the_mean(amounts: list[int]) -> None:
    values = np.array(amounts)
    differences = np.abs(values[:, None] - values[None, :]).mean()
    assert metrics.gini(values) == pytest.approx(differences / (2 * values.mean()), abs=1e-12)


def test_gini_of_equals_and_of_nothing_is_0() -> None:
    assert metrics.gini(np.array([3, 3, 3])) == pytest.approx(0)
    assert metrics.gini(np.array([0, 0])) == 0


def test_diversity_of_opposite_equal_and_orthogonal_items() -> None:
    vectors = np.array([[9, 9], [1, 0], [2, 0], [0, 5], [-1, 0]], dtype=np.float32)
    lists = np.array([[1, 2], [1, 3], [1, 4], [1, 0]])
    found = metrics.intra_list_diversity(lists, 2, vectors)
    assert found == pytest.approx([0, 1, 2, np.nan], nan_ok=True, abs=1e-6)


@given(lists_and_targets(), st.integers(1, 8), st.integers(0, 99))
def test_diversity_is_the_mean_over_pairs(data: tuple[Array, Array], k: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(N_ITEMS + 1, 3))
    expected = []
    for row in data[0][:, :k]:
        pairs = list(combinations([vectors[item] for item in row if item], 2))
        distances = [1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]
        expected.append(np.mean(distances) if distances else np.nan)
    assert metrics.intra_list_diversity(data[0], k, vectors) == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_a_mean_interval_by_hand_leaves_out_nan() -> None:
    found = metrics.mean_interval(np.array([1.0, 2.0, 3.0, np.nan]))
    assert found.mean == pytest.approx(2)
    assert found.high - found.mean == pytest.approx(1.959964 / math.sqrt(3), abs=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_intervals_of_one_value_and_of_none() -> None:
    assert metrics.mean_interval(np.array([0.5])) == metrics.Interval(0.5, 0.5, 0.5)
    assert np.isnan(metrics.mean_interval(np.array([np.nan])).mean)


def test_a_mean_interval_holds_the_truth_in_about_95_of_100_cases() -> None:
    random = np.random.default_rng(0)
    found = [metrics.mean_interval(random.exponential(size=400)) for _ in range(1000)]
    assert 0.92 < np.mean([interval.low <= 1.0 <= interval.high for interval in found]) < 0.98


def test_pairing_sees_a_small_gain_that_separate_intervals_hide() -> None:
    hard = np.random.default_rng(0).random(300)
    better = hard + 0.01
    separate, paired = metrics.mean_interval(better), metrics.paired_bootstrap(better, hard)
    assert separate.low < hard.mean()
    assert paired.excludes_zero
    assert (paired.mean, paired.low, paired.high) == pytest.approx((0.01, 0.01, 0.01))


def test_a_paired_bootstrap_agrees_with_the_normal_interval_and_repeats_itself() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 500))
    found, normal = metrics.paired_bootstrap(a, b, seed=3), metrics.mean_interval(a - b)
    assert found == metrics.paired_bootstrap(a, b, seed=3)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (normal.mean, normal.low, normal.high), abs=0.01
    )
    assert not found.excludes_zero


def test_the_same_users_are_drawn_whatever_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 50))
    whole = metrics.paired_bootstrap(a, b, resamples=100)
    monkeypatch.setattr(metrics, "_DRAWS_AT_ONCE", 120)
    assert metrics.paired_bootstrap(a, b, resamples=100) == whole


def test_a_paired_ratio_of_proportional_methods_is_certain() -> None:
    b = np.random.default_rng(0).random(50)
    found = metrics.paired_ratio(2 * b, b)
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2, 2))


def test_a_ratio_over_nothing_is_unknown() -> None:
    assert np.isnan(metrics.paired_ratio(np.ones(3), np.zeros(3)).mean)


@pytest.mark.parametrize("other", [np.ones(2), np.ones((3, 1))])
def test_methods_of_different_users_are_not_paired(other: Array) -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        metrics.paired_bootstrap(np.ones(3), other)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_an_interval_lies_around_its_mean(values: list[float]) -> None:
    for found in (
        metrics.mean_interval(np.array(values)),
        metrics.paired_bootstrap(np.array(values), np.zeros(len(values)), resamples=50),
    ):
        assert found.low <= found.high
        assert np.isfinite([found.low, found.mean, found.high]).all()
