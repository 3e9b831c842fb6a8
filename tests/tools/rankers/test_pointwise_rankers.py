"""What every pointwise ranker does, whatever its model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_clicks import (
    CANDIDATES,
    HISTORY,
    MATCH,
    MODELS,
    N_ITEMS,
    N_USERS,
    OTHER,
    SIZES,
    entropy,
    planted_examples,
    planted_features,
    section,
    some,
)

from python_backend.graph import Graph
from tools.rankers.training import FittedRanker, fit_ranker, log_loss
from tools.training.candidates import PADDING_SCORE
from tools.training.rank_training import target_places

FEATURES = planted_features()
LEARNED, _ = planted_examples(4000, seed=1)
ASKED, TRUTH = planted_examples(2000, seed=2)
THERE = ASKED.candidates != 0


@pytest.fixture(scope="module", params=MODELS)
def ranker(request: pytest.FixtureRequest) -> FittedRanker:
    """Trained on half of the candidates of each example."""
    config = section(request.param, negatives=CANDIDATES // 2)
    return fit_ranker(config, LEARNED, FEATURES, history=HISTORY, seed=1)


def test_a_ranker_finds_what_retrieval_does_not_know(ranker: FittedRanker) -> None:
    asked = some(ASKED, ASKED.targets >= 0)
    # The best order puts the three or so candidates that match first, in any order.
    chance = np.random.default_rng(0).random(asked.candidates.shape)
    perfect = np.where(TRUTH[ASKED.targets >= 0] == MATCH, 1, 0) + 0.5 * chance
    retrieved, ranked, best = (
        target_places(scores.astype(np.float32), asked).mean()
        for scores in (asked.scores, ranker.logits(asked), perfect)
    )
    assert retrieved > best + 1.5
    assert ranked < best + 0.3


def test_its_probabilities_are_those_of_clicks_though_negatives_were_drawn(ranker: FittedRanker) -> None:
    stated = ranker.probabilities(ASKED)
    assert stated[THERE].mean() == pytest.approx(TRUTH[THERE].mean(), rel=0.1)
    for probability in (MATCH, OTHER):
        assert stated[probability == TRUTH].mean() == pytest.approx(probability, rel=0.3)
    assert (stated[~THERE] == 0).all()


def test_its_log_loss_is_near_the_entropy_of_the_truth(ranker: FittedRanker) -> None:
    rate = TRUTH[THERE].mean()
    least = entropy(TRUTH, ASKED)
    guessed = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    # Expected over clicks, so that no luck in drawing them is measured.
    logits = ranker.logits(ASKED).astype(np.float64)
    expected = float((np.logaddexp(0, logits) - TRUTH * logits)[THERE].mean())
    assert least <= expected < least + 0.3 * (guessed - least)
    assert log_loss(ranker.logits(ASKED), ASKED) == pytest.approx(expected, rel=0.15)


def test_padding_gets_the_lowest_score_and_touches_nobody(ranker: FittedRanker) -> None:
    logits = ranker.logits(ASKED)
    assert (logits[~THERE] == PADDING_SCORE).all()
    assert np.isfinite(logits).all()
    full = some(ASKED, slice(1, 40))
    width = CANDIDATES + 3
    wider = replace(
        full,
        candidates=np.pad(full.candidates, ((0, 0), (0, 3))),
        scores=np.pad(full.scores, ((0, 0), (0, 3)), constant_values=PADDING_SCORE),
    )
    found = ranker.logits(wider)
    assert found.shape == (len(full.users), width)
    np.testing.assert_allclose(found[:, :CANDIDATES], ranker.logits(full), atol=1e-5)


def test_users_in_a_batch_get_what_they_get_alone(ranker: FittedRanker) -> None:
    together = ranker.logits(some(ASKED, slice(0, 12)))
    alone = [ranker.logits(some(ASKED, slice(row, row + 1))) for row in range(12)]
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)


def test_a_candidates_logit_does_not_depend_on_its_place(ranker: FittedRanker) -> None:
    asked, order = some(ASKED, slice(0, 12)), np.random.default_rng(0).permutation(CANDIDATES)
    moved = replace(asked, candidates=asked.candidates[:, order], scores=asked.scores[:, order])
    np.testing.assert_allclose(ranker.logits(moved), ranker.logits(asked)[:, order], atol=1e-5)


def test_padding_in_front_of_a_history_does_not_matter(ranker: FittedRanker) -> None:
    asked = some(ASKED, ASKED.histories[:, 0] == 0)
    cut = replace(asked, histories=asked.histories[:, 2:])
    np.testing.assert_allclose(ranker.logits(cut), ranker.logits(asked), atol=1e-5)


def test_a_user_is_known_by_features_and_history_alone(ranker: FittedRanker) -> None:
    """Users of the same country with the same history are the same user."""
    asked = some(ASKED, slice(0, 12))
    twin = replace(asked, users=(asked.users + 2) % N_USERS)
    assert np.array_equal(ranker.logits(twin), ranker.logits(asked))


def test_a_request_of_zeros_as_triton_warms_up_with_is_answered(ranker: FittedRanker) -> None:
    asked = some(ASKED, slice(0, 2))
    names = ("users", "histories", "candidates", "scores")
    zeros = replace(asked, **{name: np.zeros_like(getattr(asked, name)) for name in names})
    assert (ranker.logits(zeros) == PADDING_SCORE).all()


QUICK = {"logistic", "lstm"}
"""Exporting takes seconds: the others are exported where there is time."""


@pytest.mark.parametrize(
    "model",
    [pytest.param(model, marks=() if model in QUICK else pytest.mark.slow) for model in MODELS],
)
def test_the_graph_that_is_served_says_what_the_model_says(model: str, tmp_path: Path) -> None:
    few, config = some(LEARNED, slice(0, 1000)), section(model, epochs=2, batch=16)
    ranker = fit_ranker(config, few, FEATURES, history=HISTORY, seed=1)
    ranker.write(tmp_path, SIZES)
    asked = some(ASKED, slice(0, 30))
    inputs = {
        "user_features": FEATURES.users[asked.users],
        "history": asked.histories,
        "candidate": asked.candidates,
        "retrieval_score": asked.scores,
    }
    answer = Graph(tmp_path / "rank.onnx")(inputs)
    assert list(answer) == ["rank_score"]
    np.testing.assert_allclose(answer["rank_score"], ranker.logits(asked), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_gives_the_same_ranker_and_another_does_not(model: str) -> None:
    few, config = some(LEARNED, slice(0, 200)), section(model, epochs=2, dropout=0.1, negatives=4)
    first, again, other = (
        fit_ranker(config, few, FEATURES, history=HISTORY, seed=seed) for seed in (1, 1, 2)
    )
    states = [fitted.model.state_dict() for fitted in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert first.curve == again.curve
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "again"):
        few, folder = some(LEARNED, slice(0, 200)), tmp_path / name
        folder.mkdir()
        fit_ranker(section("logistic", epochs=1), few, FEATURES, history=HISTORY, seed=1).write(folder, SIZES)
    first, again = ((tmp_path / name / "rank.onnx").read_bytes() for name in ("first", "again"))
    assert first == again


def test_training_starts_from_the_calibrated_retrieval_score() -> None:
    """A retriever that is right all along: nothing is left to learn but how sure it may be."""
    examples, truth = planted_examples(4000, seed=3)
    known = examples.candidates != 0
    right = replace(examples, scores=np.where(known, 7 * np.log(np.maximum(truth, 1e-9)), PADDING_SCORE))
    right = replace(right, scores=right.scores.astype(np.float32))
    start = fit_ranker(section("dnn", learning_rate=1e-9, epochs=1), right, FEATURES, history=HISTORY, seed=1)
    stated = start.probabilities(right)
    assert stated[truth == MATCH].mean() == pytest.approx(MATCH, rel=0.15)
    assert stated[truth == OTHER].mean() == pytest.approx(OTHER, rel=0.3)


def test_an_epoch_is_measured_on_validation_examples_and_reported() -> None:
    seen: list[tuple[int, int, str]] = []
    few = some(LEARNED, slice(0, 100))
    fitted = fit_ranker(
        section("neumf", epochs=2),
        few,
        FEATURES,
        history=HISTORY,
        seed=1,
        validation=few,
        progress=lambda done, total, text: seen.append((done, total, text)),
    )
    assert [(done, total) for done, total, _ in seen] == [(1, 2), (2, 2)]
    assert set(fitted.curve[0]) == {"epoch", "loss", "validation_loss", "validation_ndcg_10"}
    assert fitted.curve[-1]["validation_loss"] == pytest.approx(log_loss(fitted.logits(few), few))


@pytest.mark.parametrize("kept", [0, 50])
def test_without_a_single_click_there_is_an_answer_all_the_same(kept: int) -> None:
    lost = some(replace(LEARNED, targets=np.full(len(LEARNED.users), -1)), slice(0, kept))
    fitted = fit_ranker(section("dcn_v2", epochs=1), lost, FEATURES, history=HISTORY, seed=1)
    assert np.isfinite(fitted.logits(ASKED)).all()


def test_of_its_correction_a_trained_ranker_uses_the_configured_share() -> None:
    few, asked = some(LEARNED, slice(0, 1000)), some(ASKED, slice(1, 5))
    configs = [section("dnn", shrinkage=share, epochs=2, batch=16) for share in (1e-9, 0.5, 1)]
    nothing, half, whole = (
        fit_ranker(config, few, FEATURES, history=HISTORY, seed=1).logits(asked) for config in configs
    )
    assert np.abs(whole - nothing).max() > 0.5
    np.testing.assert_allclose(half - nothing, (whole - nothing) / 2, atol=1e-4)


def test_an_item_that_nobody_has_met_is_taken_for_one_with_such_features() -> None:
    """Item 3 is of a genre like all others; training met it as a candidate that nobody clicks."""
    met = replace(LEARNED, histories=np.where(LEARNED.histories == 3, 6, LEARNED.histories))
    clicked = np.take_along_axis(met.candidates, np.maximum(met.targets, 0)[:, None], axis=1)[:, 0]
    met = replace(met, targets=np.where(clicked == 3, -1, met.targets))
    fitted = fit_ranker(section("dnn"), met, FEATURES, history=HISTORY, seed=1)
    here = ASKED.candidates == 3
    before = fitted.logits(ASKED)[here].mean()
    cold = np.arange(N_ITEMS + 1) == 3
    fitted.warm_up(cold, np.where(cold, 0, 100))
    others = fitted.logits(ASKED)[np.isin(ASKED.candidates, [6, 9, 12])].mean()
    after = fitted.logits(ASKED)[here].mean()
    assert before < after
    assert after == pytest.approx(others, abs=0.7)
