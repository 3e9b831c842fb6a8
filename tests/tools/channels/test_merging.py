"""The merge's weights are fitted to what came next."""

from __future__ import annotations

import numpy as np
import pytest

from python_backend.stages.merge import Merge, Voice, Weights
from tools.channels.merged import ChannelLists
from tools.channels.merging import fit_merge

ITEMS, QUOTA, MOMENTS = 40, 10, 300
START = Merge([Voice("good", 1, Weights(reciprocal=1)), Voice("bad", 2, Weights(reciprocal=1))], 60.0, 15)


@pytest.fixture(scope="module")
def found() -> ChannelLists:
    """One channel puts what comes next on one of its first places, the other finds anything."""
    random = np.random.default_rng(0)
    good, bad = (
        np.stack([random.permutation(ITEMS)[:QUOTA] + 1 for _ in range(MOMENTS)]).astype(np.int32)
        for _ in range(2)
    )
    place = np.minimum(random.geometric(0.5, MOMENTS) - 1, QUOTA - 1)
    score = -np.sort(random.exponential(size=(MOMENTS, QUOTA))).astype(np.float32)
    return ChannelLists(
        np.arange(MOMENTS),
        np.zeros((MOMENTS, 3), np.int32),
        {
            "candidate_good": good,
            "retrieval_score_good": score,
            "candidate_bad": bad,
            "retrieval_score_bad": score,
        },
        good[np.arange(MOMENTS), place],
    )


def loss(merge: Merge, found: ChannelLists) -> float:
    """Minus the mean log probability that the merged list gives to what came next."""
    merged = merge(found.lists)
    hit = merged["candidate"] == found.wanted[:, None]
    return float(-(merged["retrieval_score"] * hit).sum() / hit.any(axis=1).sum())


def test_the_channel_that_knows_what_comes_next_is_listened_to(found: ChannelLists) -> None:
    fitted = fit_merge(START, [found], learned=True)
    merged = fitted(found.lists)["candidate"]
    place = (merged == found.wanted[:, None]).argmax(axis=1)
    plain = (START(found.lists)["candidate"] == found.wanted[:, None]).argmax(axis=1)
    assert place.mean() < 0.7 * plain.mean()
    good, bad = (voice.weights for voice in fitted.voices)
    assert good.closeness < -0.5
    assert abs(bad.closeness) < 0.3


def test_scores_become_log_probabilities_without_another_order(found: ChannelLists) -> None:
    fitted = fit_merge(START, [found], learned=False)
    assert np.array_equal(fitted(found.lists)["candidate"], START(found.lists)["candidate"])
    assert fitted.voices[0].weights.reciprocal > 10
    assert loss(fitted, found) < loss(START, found)
    assert loss(fit_merge(START, [found], learned=True), found) < loss(fitted, found)


def test_the_same_lists_give_the_same_weights(found: ChannelLists) -> None:
    assert fit_merge(START, [found], learned=True).voices == fit_merge(START, [found], learned=True).voices


def test_where_nothing_that_came_next_was_found_nothing_is_learned(found: ChannelLists) -> None:
    lost = ChannelLists(found.users, found.histories, found.lists, np.full(MOMENTS, ITEMS + 1, np.int32))
    assert fit_merge(START, [lost], learned=True) is START
