from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_tastes import HISTORY, N_ITEMS, material_of, section, two_tastes

from tools.channels.interests import Interests, squash
from tools.channels.network_channel import ListGraph, NetworkChannel
from tools.channels.registry import fit_channel


@pytest.fixture(scope="module")
def network() -> Interests:
    """Trained on users with two tastes each."""
    users, _ = two_tastes(150, seed=1)
    channel = fit_channel(section("mind", width=32), material_of(users.tolist()))
    assert isinstance(channel, NetworkChannel)
    assert isinstance(channel.network, Interests)
    return channel.network


@torch.no_grad()
def test_interests_differ_and_each_of_two_tastes_has_one(network: Interests) -> None:
    items, kinds = two_tastes(60, seed=2, length=6)
    history = torch.from_numpy(np.pad(items, ((0, 0), (HISTORY - 6, 0))))
    vectors = network.items()
    queries = network.newest(torch.zeros(60, 2, dtype=torch.int32), history, vectors[history])
    scores = queries @ vectors[1:].T + network.biases()[1:]
    # Six items make two interests; each is of the kind whose items it scores highest on average.
    chosen = scores.unflatten(2, (4, 6)).mean(dim=-1).argmax(dim=-1)[:, :2].numpy()
    each = (np.sort(chosen, axis=1) == np.sort(kinds, axis=1)).all(axis=1)
    assert each.mean() > 0.7, each.mean()


@torch.no_grad()
def test_what_is_left_of_both_tastes_is_found(network: Interests) -> None:
    items, kinds = two_tastes(60, seed=2, length=6)
    history = torch.from_numpy(np.pad(items, ((0, 0), (HISTORY - 6, 0))))
    found = ListGraph(network, 6).eval()(torch.zeros(60, 2, dtype=torch.int32), history, history)[0].numpy()
    of_kind = (found - 1) // 6
    for kind in kinds.T:
        assert ((of_kind == kind[:, None]).sum(axis=1) >= 2).mean() > 0.8


@torch.no_grad()
@pytest.mark.parametrize(("items", "interests"), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (7, 2), (8, 3)])
def test_a_user_has_as_many_interests_as_the_logarithm_of_the_items(
    network: Interests, items: int, interests: int
) -> None:
    history = torch.zeros(1, HISTORY, dtype=torch.int32)
    history[0, HISTORY - items :] = torch.randperm(N_ITEMS)[:items] + 1
    queries = network.newest(torch.zeros(1, 2, dtype=torch.int32), history, network.items()[history])[0]
    assert len(torch.unique(queries, dim=0)) == interests


def test_squashing_keeps_the_direction_and_lengths_below_one() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.03, 0.04], [0.0, 0.0]])
    squashed = squash(vectors)
    assert squashed[0].tolist() == pytest.approx([0.6 * 25 / 26, 0.8 * 25 / 26], rel=1e-3)
    assert 0 < squashed[1].norm() < 0.01
    assert squashed[2].tolist() == [0.0, 0.0]
