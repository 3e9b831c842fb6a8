from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import HISTORY, features_of, rank_config

from tools.training.candidates import PADDING_SCORE
from tools.training.export import RankGraph
from tools.training.features import Features
from tools.training.ranker import Ranker

N_USERS, N_ITEMS, K, ROWS = 9, 40, 12, 4


@pytest.fixture(scope="module")
def features() -> Features:
    return features_of(N_USERS, N_ITEMS)


def ranker(features: Features, *, trained: bool, **changes: object) -> Ranker:
    """As it starts, or as if it had learned something."""
    torch.manual_seed(0)
    model = Ranker(rank_config(**changes), features, HISTORY)
    if trained:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
            model.items.identity.weight[0] = 0
            model.items.features.embedding.weight[0] = 0
            model.user_embedding.embedding.weight[0] = 0
    return model.eval()


@pytest.fixture
def inputs(features: Features) -> dict[str, torch.Tensor]:
    """Users with no, short and full histories; the last row has candidates for half of its places only."""
    random = np.random.default_rng(0)
    history = random.integers(1, N_ITEMS + 1, (ROWS, HISTORY))
    history[0] = 0
    history[1, :-2] = 0
    candidates = np.stack([random.permutation(N_ITEMS)[:K] + 1 for _ in range(ROWS)])
    scores = -np.sort(random.exponential(3, (ROWS, K))).astype(np.float32)
    candidates[-1, K // 2 :], scores[-1, K // 2 :] = 0, PADDING_SCORE
    return {
        "user_features": torch.from_numpy(features.users[:ROWS]),
        "history": torch.from_numpy(history.astype(np.int32)),
        "candidate": torch.from_numpy(candidates.astype(np.int32)),
        "retrieval_score": torch.from_numpy(scores),
    }


@torch.no_grad()
def logits(model: Ranker, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return RankGraph(model)(**inputs)


def test_an_untrained_ranker_keeps_the_retrieval_order_exactly(
    features: Features, inputs: dict[str, torch.Tensor]
) -> None:
    assert torch.equal(logits(ranker(features, trained=False), inputs), inputs["retrieval_score"])


def test_of_its_correction_a_trained_ranker_uses_the_configured_share(
    features: Features, inputs: dict[str, torch.Tensor]
) -> None:
    places = inputs["candidate"] != 0
    whole, quarter = (
        logits(ranker(features, trained=True, shrinkage=share), inputs) - inputs["retrieval_score"]
        for share in (1.0, 0.25)
    )
    assert whole[places].abs().max() > 0.1
    assert torch.allclose(quarter[places], whole[places] / 4, atol=1e-5)


def test_padding_never_wins(features: Features, inputs: dict[str, torch.Tensor]) -> None:
    inputs["retrieval_score"][-1] = -50.0  # unlikely candidates, but candidates
    found = logits(ranker(features, trained=True), inputs)
    assert (found[-1, K // 2 :] == PADDING_SCORE).all()
    assert found[-1, : K // 2].min() > PADDING_SCORE
    assert found.isfinite().all()


def test_a_request_of_zeros_as_triton_warms_up_with_is_answered(
    features: Features, inputs: dict[str, torch.Tensor]
) -> None:
    zeros = {name: torch.zeros_like(tensor) for name, tensor in inputs.items()}
    assert (logits(ranker(features, trained=True), zeros) == PADDING_SCORE).all()


def test_rows_do_not_touch_each_other(features: Features, inputs: dict[str, torch.Tensor]) -> None:
    model = ranker(features, trained=True)
    together = logits(model, inputs)
    for row in range(ROWS):
        alone = logits(model, {name: tensor[row : row + 1] for name, tensor in inputs.items()})
        assert torch.allclose(alone[0], together[row], atol=1e-5)


def test_a_candidates_logit_does_not_depend_on_its_place(
    features: Features, inputs: dict[str, torch.Tensor]
) -> None:
    model, order = ranker(features, trained=True), torch.randperm(K)
    moved = {**inputs, **{name: inputs[name][:, order] for name in ("candidate", "retrieval_score")}}
    assert torch.allclose(logits(model, moved), logits(model, inputs)[:, order], atol=1e-5)


def test_padding_in_front_of_a_history_does_not_matter(
    features: Features, inputs: dict[str, torch.Tensor]
) -> None:
    model = ranker(features, trained=True)
    short = {name: tensor[1:2] for name, tensor in inputs.items()}
    cut = {**short, "history": short["history"][:, -2:]}
    assert torch.allclose(logits(model, cut), logits(model, short), atol=1e-5)


@pytest.mark.parametrize("place", range(HISTORY))
def test_every_place_of_the_history_matters(
    features: Features, inputs: dict[str, torch.Tensor], place: int
) -> None:
    model = ranker(features, trained=True)
    before = logits(model, inputs)[2]
    inputs["history"][2, place] = inputs["history"][2, place] % N_ITEMS + 1
    assert (logits(model, inputs)[2] - before).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["user_features", "candidate", "retrieval_score"])
def test_user_candidates_and_retrieval_scores_matter(
    features: Features, inputs: dict[str, torch.Tensor], name: str
) -> None:
    model = ranker(features, trained=True)
    before = logits(model, inputs)
    inputs[name] = inputs[name].flip(0)
    assert not torch.allclose(logits(model, inputs), before, atol=1e-3)


@pytest.mark.parametrize("changes", [{"crosses": 0}, {"crosses": 3}, {"heads": 8}])
def test_its_parts_can_be_chosen(
    features: Features, inputs: dict[str, torch.Tensor], changes: dict[str, int]
) -> None:
    assert logits(ranker(features, trained=True, **changes), inputs).shape == (ROWS, K)


def test_items_and_users_without_features_are_ranked_as_well(inputs: dict[str, torch.Tensor]) -> None:
    plain = features_of(N_USERS, N_ITEMS, described=False)
    inputs["user_features"] = torch.from_numpy(plain.users[:ROWS])
    assert logits(ranker(plain, trained=True), inputs).isfinite().all()
