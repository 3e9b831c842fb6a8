"""Places of a page that are drawn: which ones, from what, and how likely each item was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare
from shop import FIRST_ID, LIFT_WEIGHT, N_ITEMS, RESULTS, SIMILARITY_WEIGHT, Ask, batch_of, make_release
from tritonrec_client.contract import FoundBy, Reason

from python_backend.exploration import Chances, EpsilonGreedy, Exploration, Thompson
from python_backend.rules import RulesFile
from python_backend.stages.rerank import Catalogue, Rerank

ASK = Ask(items=range(1, 9), logits=[8, 7, 6, 5, 4, 3, 2, 1], diversity=0.25)
POSTERIOR = Thompson(np.linspace(1, 4, N_ITEMS + 1), np.linspace(30, 9, N_ITEMS + 1))
GREEDY = EpsilonGreedy(0.5, 1 / np.arange(1, N_ITEMS + 2))
ROWS = 5_000


def stage_of(
    folder: Path, chances: Chances | None, places: int = 2, pool: int = 4, rules: str = "", seed: int = 1
) -> Rerank:
    release = make_release(folder)
    path = folder / "rules.toml"
    path.write_text(rules)
    return Rerank(
        Catalogue.read(release.artifacts),
        RESULTS,
        similarity_weight=SIMILARITY_WEIGHT,
        lift_weight=LIFT_WEIGHT,
        rules=RulesFile(path) if rules else None,
        exploration=None if chances is None else Exploration(places, pool, chances, seed=seed),
    )


def answers(stage: Rerank, ask: Ask, rows: int = ROWS) -> dict[str, np.ndarray]:
    """What so many requests like `ask` get; items as indices of the release."""
    answer = stage({name: np.repeat(array, rows, axis=0) for name, array in batch_of(ask).items()})
    return answer | {"item": np.where(answer["item_id"] < 0, 0, answer["item_id"] - FIRST_ID)}


@pytest.mark.parametrize("chances", [GREEDY, POSTERIOR], ids=["epsilon", "thompson"])
def test_items_are_shown_as_often_as_their_propensity_says(tmp_path: Path, chances: Chances) -> None:
    answer = answers(stage_of(tmp_path, chances), ASK)
    for place in (2, 3):
        # Below one drawn item the pool is another one.
        above = answer["item"][:, 2] if place == 3 else np.zeros(ROWS, int)
        for one in np.unique(above):
            rows = above == one
            shown, first, counts = np.unique(
                answer["item"][rows, place], return_index=True, return_counts=True
            )
            propensity = answer["propensity"][rows, place].astype(float)
            expected = propensity[first]
            for item, likely in zip(shown, expected, strict=True):
                same = answer["item"][rows, place] == item
                np.testing.assert_array_equal(propensity[same], likely.astype(np.float32))
            if rows.sum() < 800:
                continue
            assert expected.sum() == pytest.approx(1, abs=1e-6)
            assert chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 0.001


def test_the_places_above_are_those_without_exploration_and_certain(tmp_path: Path) -> None:
    plain = answers(stage_of(tmp_path / "plain", None), ASK, 1)
    drawn = answers(stage_of(tmp_path / "drawn", GREEDY), ASK)
    assert (plain["propensity"] == 1).all()
    for name in ("item_id", "score", "reason", "channel", "because", "propensity"):
        assert (drawn[name][:, :2] == plain[name][:, :2]).all(), name
    assert (drawn["propensity"][:, 2:] < 1).all()


def test_only_what_was_drawn_in_another_one_s_place_is_there_to_learn_from_it(tmp_path: Path) -> None:
    best = answers(stage_of(tmp_path / "plain", None), ASK, 1)
    answer = answers(stage_of(tmp_path / "drawn", GREEDY), ASK, 200)
    other = answer["item"][:, 2] != best["item"][0, 2]
    assert other.any()
    assert not other.all()
    assert ((answer["reason"][:, 2] == Reason.EXPLORED) == other).all()
    assert ((answer["channel"][:, 2] == FoundBy.NONE) == other).all()


def test_the_ranker_s_order_exactly_is_the_ranker_s_order_exactly(tmp_path: Path) -> None:
    plain = answers(stage_of(tmp_path / "plain", None), replace(ASK, diversity=0.0), 1)
    answer = answers(stage_of(tmp_path / "drawn", GREEDY), replace(ASK, diversity=0.0), 50)
    assert (answer["item_id"] == plain["item_id"]).all()
    assert (answer["propensity"] == 1).all()


def test_within_a_batch_each_row_is_drawn_or_not_for_itself(tmp_path: Path) -> None:
    batch = batch_of(*([ASK, replace(ASK, diversity=0.0)] * 100))
    answer = stage_of(tmp_path, GREEDY)(batch)
    assert (answer["propensity"][1::2] == 1).all()
    assert (answer["propensity"][::2, 2:] < 1).all()


def test_no_seen_no_blocked_no_pinned_and_no_capped_item_is_drawn(tmp_path: Path) -> None:
    rules = "blocked = [108]\n[[pinned]]\nitem = 112\nposition = 3\n"
    rules += "[[caps]]\nfield = 'colour'\nat_most = 2\n"
    chances = EpsilonGreedy(1.0, np.ones(N_ITEMS + 1))
    stage = stage_of(tmp_path, chances, places=3, pool=20, rules=rules)
    answer = answers(stage, replace(ASK, seen=[7]), 2000)
    assert (answer["item"][:, 2] == 12).all()
    assert (answer["propensity"][:, 2] == 1).all()
    assert (answer["reason"][:, 2] == Reason.PINNED).all()
    drawn = answer["item"][:, [1, 3]]
    # 1 and 12 are red, so no more red ones: that leaves the blue, 3 and 4, and the green one.
    assert set(drawn.ravel()) == {3, 4, 6}
    assert all(len(set(page)) == 4 for page in answer["item"].tolist())


def test_a_page_that_is_short_is_not_longer_for_being_drawn(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, GREEDY)
    answer = answers(stage, replace(ASK, seen=[2, 4, 5, 6, 7, 8]), 50)
    assert set(answer["item"][:, :2].ravel()) == {1, 3}
    assert (answer["item"][:, 2:] == 0).all()
    assert (answer["propensity"] == 1).all()


@pytest.mark.parametrize("chances", [None, GREEDY, POSTERIOR], ids=["none", "epsilon", "thompson"])
def test_the_chance_of_every_item_at_a_place_is_its_propensity_there(
    tmp_path: Path, chances: Chances | None
) -> None:
    stage = stage_of(tmp_path, chances)
    answer = answers(stage, ASK, 300)
    batch = {name: np.repeat(array, 300, axis=0) for name, array in batch_of(ASK).items()}
    for place in range(RESULTS):
        above = answer["item"][:, :place].astype(np.int32)
        found = stage.chances(batch, place, answer["item"][:, place], above)
        np.testing.assert_allclose(found, answer["propensity"][:, place], rtol=1e-6)
        of_all = [stage.chances(batch, place, np.full(300, item), above) for item in range(1, N_ITEMS + 1)]
        np.testing.assert_allclose(np.sum(of_all, axis=0), 1, rtol=1e-6)


def test_below_what_another_release_showed_the_chances_are_other_ones(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, GREEDY)
    batch = batch_of(ASK)
    own = stage.chances(batch, 2, np.array([3]), np.array([[1, 4]], np.int32))
    below = stage.chances(batch, 2, np.array([3]), np.array([[3, 4]], np.int32))
    assert own[0] > 0
    assert below[0] == 0  # it stands above already
    # One that is no candidate here counts for what it is like; one that is not in the release for nothing.
    for other in (9, 0):
        assert 0 < stage.chances(batch, 2, np.array([3]), np.array([[1, other]], np.int32))[0] < 1


def test_without_knowing_what_stands_above_it_is_what_the_stage_would_put_there(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, GREEDY)
    answer = answers(stage, ASK)
    batch = {name: np.repeat(array, 500, axis=0) for name, array in batch_of(ASK).items()}
    counts = np.bincount(answer["item"][:, 3], minlength=N_ITEMS + 1) / ROWS
    expected = [stage.chances(batch, 3, np.full(500, item)).mean() for item in range(N_ITEMS + 1)]
    np.testing.assert_allclose(counts, expected, atol=0.05)


def test_rules_hold_for_the_chances_as_well(tmp_path: Path) -> None:
    rules = "blocked = [108]\n[[pinned]]\nitem = 112\nposition = 3\n"
    rules += "[[caps]]\nfield = 'colour'\nat_most = 2\n"
    stage = stage_of(tmp_path, EpsilonGreedy(1.0, np.ones(N_ITEMS + 1)), places=3, pool=20, rules=rules)
    above = np.array([[1]], np.int32)
    chances = [stage.chances(batch_of(ASK), 1, np.array([item]), above)[0] for item in range(N_ITEMS + 1)]
    assert [item for item, chance in enumerate(chances) if chance] == [3, 4, 6]
    pinned = [
        stage.chances(batch_of(ASK), 2, np.array([item]), np.array([[1, 3]], np.int32))[0]
        for item in range(N_ITEMS + 1)
    ]
    assert [item for item, chance in enumerate(pinned) if chance] == [12]
