from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from planted_tastes import HISTORY, N_ITEMS, SIZES, START, material_of, section, walks
from torch import Tensor

from python_backend.item_index import INDEX, PADDING_SCORE
from python_backend.stages.retrieve import QUERY_GRAPH, Retrieve
from tools.channels.history_network import HistoryNetwork
from tools.channels.network_channel import ListGraph, NetworkChannel
from tools.channels.registry import fit_channel
from tools.training.export import made_up_inputs
from tools.training.index_export import NORMALISER

MODELS = ["gru", "lstm", "mind", "two_towers"]
EXPORTED = [  # every export takes seconds
    pytest.param("gru"),
    pytest.param("lstm", marks=pytest.mark.slow),
    pytest.param("mind", marks=pytest.mark.slow),
    pytest.param("two_towers", marks=pytest.mark.slow),
]


@cache
def walker(model: str) -> NetworkChannel:
    """A channel that learned from users who walk in a circle."""
    channel = fit_channel(section(model), material_of(walks(90, seed=1).tolist()))
    assert isinstance(channel, NetworkChannel)
    return channel


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Path]:
    """The folder of a walker's model, as one graph or with an index; each is written once."""

    @cache
    def write(model: str, index: bool) -> Path:
        folder = tmp_path_factory.mktemp(model)
        walker(model).write(folder, SIZES, index_from=1 if index else N_ITEMS + 1)
        return folder

    return write


@torch.no_grad()
def lists(network: HistoryNetwork, histories: NDArray[np.int32], users: NDArray[np.int32]) -> Tensor:
    graph = ListGraph(network, SIZES.candidates).eval()
    seen = torch.from_numpy(histories)
    candidate: Tensor = graph(torch.from_numpy(users), seen, seen)[0]
    return candidate


def requests(rows: int) -> dict[str, NDArray[np.int32]]:
    """Users with long, short and no histories."""
    return made_up_inputs("retrieve", walker("gru").features, SIZES, rows)


@pytest.mark.parametrize("model", MODELS)
def test_what_comes_next_is_found_where_popularity_would_not(model: str) -> None:
    channel, steps = walker(model), walks(60, seed=2, at_start=0)
    found = lists(channel.network, steps[:, :-1], channel.features.users[np.zeros(60, int)])
    hits = (found[:, 0].numpy() == steps[:, -1]).mean()
    popular = np.argsort(-np.bincount(walks(90, seed=1).ravel()), kind="stable")
    unseen = [next(item for item in popular if item and item not in row[:-1]) for row in steps]
    assert hits > 0.5 > 2 * np.mean(unseen == steps[:, -1])


@pytest.mark.parametrize("model", MODELS)
def test_one_who_is_not_known_at_all_is_offered_what_most_begin_with(model: str) -> None:
    nothing = np.zeros((1, HISTORY), np.int32)
    assert lists(walker(model).network, nothing, np.zeros((1, 2), np.int32))[0, 0] == START


@pytest.mark.parametrize("model", MODELS)
def test_a_history_means_the_same_however_much_padding_is_in_front(model: str) -> None:
    network, users = walker(model).network, torch.from_numpy(walker(model).features.users[:3])
    long = torch.from_numpy(walks(3, seed=3)[:, :HISTORY])
    for kept in (1, 3, HISTORY - 1):
        padded = torch.where(torch.arange(HISTORY) >= HISTORY - kept, long, 0)
        vectors = network.items()[padded]
        whole = network.newest(users, padded, vectors)
        cut = network.newest(users, padded[:, -kept:], vectors[:, -kept:])
        torch.testing.assert_close(whole, cut)


@pytest.mark.parametrize("model", MODELS)
def test_training_asks_at_each_position_what_serving_asks_at_the_end(model: str) -> None:
    network, users = walker(model).network, torch.from_numpy(walker(model).features.users[:3])
    history = torch.from_numpy(walks(3, seed=4)[:, :HISTORY])
    history[:, :2] = 0
    everywhere = torch.ones(3, HISTORY, dtype=torch.bool)
    trained = network.queries(users, history, network.items()[history], everywhere)
    for position in range(HISTORY):
        until = torch.nn.functional.pad(history[:, : position + 1], (HISTORY - position - 1, 0))
        served = network.newest(users, until, network.items()[until])
        torch.testing.assert_close(trained.unflatten(0, (3, HISTORY))[:, position], served)


@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_gives_the_same_network_and_another_one_another(model: str) -> None:
    users = walks(20, seed=5).tolist()
    one, same, other = (
        fit_channel(section(model, epochs=2), material_of(users, seed=seed)) for seed in (1, 1, 2)
    )
    assert isinstance(one, NetworkChannel)
    assert isinstance(same, NetworkChannel)
    assert isinstance(other, NetworkChannel)
    mine = one.network.state_dict()
    assert all(torch.equal(mine[name], value) for name, value in same.network.state_dict().items())
    assert not all(torch.equal(mine[name], value) for name, value in other.network.state_dict().items())


def test_a_large_catalogue_is_learned_from_drawn_items() -> None:
    config = section("gru", full_softmax_items=1, negatives=8)
    channel, steps = (
        fit_channel(config, material_of(walks(90, seed=1).tolist())),
        walks(60, seed=2, at_start=0),
    )
    assert isinstance(channel, NetworkChannel)
    found = lists(channel.network, steps[:, :-1], channel.features.users[np.zeros(60, int)])
    assert (found[:, 0].numpy() == steps[:, -1]).mean() > 0.5


def test_a_logistic_head_gives_probabilities_whatever_the_negatives_favour() -> None:
    # Nobody has a taste: every event is drawn with the same probabilities.
    random = np.random.default_rng(0)
    share = np.geomspace(1, 1 / 30, 12) / np.geomspace(1, 1 / 30, 12).sum()
    users = random.choice(12, size=(300, 6), p=share) + 1
    channel = fit_channel(section("two_towers", negatives=40, epochs=12), material_of(users.tolist(), 12))
    assert isinstance(channel, NetworkChannel)
    network, nothing = channel.network, torch.zeros(1, HISTORY, dtype=torch.int32)
    with torch.no_grad():
        query = network.newest(torch.zeros(1, 2, dtype=torch.int32), nothing, network.items()[nothing])[0, 0]
        logits = (network.items() @ query + network.biases()).numpy()[1:]
    slope = np.polyfit(np.log(share), logits, 1)[0]
    assert 0.75 < slope < 1.25  # without the correction about half of it
    assert 0.6 < np.exp(logits).sum() < 1.6


@pytest.mark.parametrize("model", EXPORTED)
def test_the_graph_answers_as_the_model_does(model: str, written: Callable[[str, bool], Path]) -> None:
    inputs = requests(9)
    answer = Retrieve.open(written(model, False), candidates=SIZES.candidates)(inputs)
    with torch.no_grad():
        graph = ListGraph(walker(model).network, SIZES.candidates).eval()
        candidate, score = graph(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    assert np.array_equal(answer["candidate"], candidate.numpy())
    assert np.allclose(answer["retrieval_score"], score.numpy(), atol=1e-4)
    assert (np.diff(answer["retrieval_score"]) <= 0).all()


@pytest.mark.parametrize("model", EXPORTED)
def test_a_batch_is_its_requests_one_by_one(model: str, written: Callable[[str, bool], Path]) -> None:
    stage, inputs = Retrieve.open(written(model, False), candidates=SIZES.candidates), requests(8)
    together = stage(inputs)
    for row in range(8):
        alone = stage({name: array[row : row + 1] for name, array in inputs.items()})
        assert np.array_equal(alone["candidate"][0], together["candidate"][row])
        assert np.allclose(alone["retrieval_score"][0], together["retrieval_score"][row], atol=1e-5)


@pytest.mark.parametrize("model", EXPORTED)
def test_nothing_that_was_seen_comes_back_and_places_without_an_item_say_so(
    model: str, written: Callable[[str, bool], Path]
) -> None:
    inputs = requests(4)
    inputs["seen"] = np.tile(np.arange(1, N_ITEMS + 1, dtype=np.int32), (4, 1))
    inputs["seen"][:, :4] = 0
    answer = Retrieve.open(written(model, False), candidates=SIZES.candidates)(inputs)
    assert (np.sort(answer["candidate"][:, :4]) == [1, 2, 3, 4]).all()
    assert (answer["candidate"][:, 4:] == 0).all()
    assert (answer["retrieval_score"][:, 4:] == PADDING_SCORE).all()
    assert (answer["retrieval_score"][:, :4] > PADDING_SCORE).all()


@pytest.mark.parametrize("model", MODELS)
def test_a_quota_may_be_larger_than_the_catalogue(model: str) -> None:
    inputs = {name: torch.from_numpy(array) for name, array in requests(3).items()}
    with torch.no_grad():
        candidate, score = ListGraph(walker(model).network, N_ITEMS + 9).eval()(**inputs)
    assert candidate.shape == score.shape == (3, N_ITEMS + 9)
    assert (candidate[:, N_ITEMS:] == 0).all()
    assert (score[:, N_ITEMS:] == PADDING_SCORE).all()


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("gru", marks=pytest.mark.slow),
        pytest.param("mind"),
        pytest.param("two_towers", marks=pytest.mark.slow),
    ],
)
def test_the_index_answers_as_the_model_does(model: str, written: Callable[[str, bool], Path]) -> None:
    folder, inputs = written(model, True), requests(30)
    assert sorted(path.name for path in folder.iterdir()) == [INDEX, QUERY_GRAPH]
    answer = Retrieve.open(folder, candidates=SIZES.candidates)(inputs)
    with torch.no_grad():
        graph = ListGraph(walker(model).network, SIZES.candidates).eval()
        candidate, score = graph(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    assert np.array_equal(answer["candidate"], candidate.numpy())
    assert np.allclose(answer["retrieval_score"], score.numpy(), atol=NORMALISER)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_same_channel_gives_the_same_bytes(
    model: str, written: Callable[[str, bool], Path], tmp_path: Path
) -> None:
    channel = fit_channel(section(model), material_of(walks(90, seed=1).tolist()))
    channel.write(tmp_path, SIZES)
    assert [path.name for path in tmp_path.iterdir()] == ["retrieve.onnx"]
    first = written(model, False) / "retrieve.onnx"
    assert (tmp_path / "retrieve.onnx").read_bytes() == first.read_bytes()
