from __future__ import annotations

import pytest
import torch
from toy import HISTORY, features_of

from tools.training.item_encoder import FeatureEmbedding
from tools.training.query_tower import QueryTower

N_ITEMS, WIDTH = 20, 16


@pytest.fixture(scope="module")
def tower() -> QueryTower:
    """Two blocks with weights well away from where training starts, so that a leak would be seen."""
    torch.manual_seed(0)
    encoder = features_of(9, N_ITEMS).user_encoder
    users = FeatureEmbedding(encoder.fields, 2, encoder.code_count, WIDTH)
    tower = QueryTower(users, HISTORY, WIDTH, blocks=2, heads=4, dropout=0.3)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        users.embedding.weight[0] = 0
    return tower.eval()


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    vectors = torch.randn(N_ITEMS + 1, WIDTH, generator=torch.Generator().manual_seed(1))
    vectors[0] = 0
    return vectors


def ask(tower: QueryTower, vectors: torch.Tensor, history: list[int], user: list[int]) -> torch.Tensor:
    items = torch.tensor([history], dtype=torch.int32)
    with torch.no_grad():
        return tower(torch.tensor([user], dtype=torch.int32), items, vectors[items])[0]


def test_there_is_a_query_for_every_position(tower: QueryTower, vectors: torch.Tensor) -> None:
    queries = ask(tower, vectors, [0, 0, 3, 4], [1, 4])
    assert queries.shape == (4, WIDTH)
    assert queries.isfinite().all()


@pytest.mark.parametrize("history", [[], [5], [5, 9, 2], list(range(1, HISTORY + 1))])
def test_the_newest_query_alone_is_the_last_of_all(
    tower: QueryTower, vectors: torch.Tensor, history: list[int]
) -> None:
    items = torch.tensor([[0] * (HISTORY - len(history)) + history], dtype=torch.int32)
    user = torch.tensor([[1, 4]], dtype=torch.int32)
    with torch.no_grad():
        queries, newest = (ask(user, items, vectors[items]) for ask in (tower, tower.newest))
    assert torch.allclose(newest, queries[:, -1], atol=1e-6)


@pytest.mark.parametrize("position", range(HISTORY))
def test_later_items_cannot_change_earlier_queries(
    tower: QueryTower, vectors: torch.Tensor, position: int
) -> None:
    history = [1, 2, 3, 4, 5, 6, 7, 8]
    before = ask(tower, vectors, history, [1, 4])
    history[position] = 15
    after = ask(tower, vectors, history, [1, 4])
    same = (before == after).all(dim=1)
    assert same[:position].all()
    assert not same[position:].any()


@pytest.mark.parametrize("history", [[], [5], [5, 9, 2]])
def test_a_short_history_gives_the_same_query_however_wide_the_window(
    tower: QueryTower, vectors: torch.Tensor, history: list[int]
) -> None:
    """Training cuts batches to their longest row; serving always has the full width."""
    widths = range(max(len(history), 1), HISTORY + 1)
    queries = [ask(tower, vectors, [0] * (width - len(history)) + history, [1, 4])[-1] for width in widths]
    assert len(queries) > 1
    for query in queries[1:]:
        assert torch.allclose(query, queries[0], atol=1e-5)


def test_rows_of_a_batch_do_not_touch_each_other(tower: QueryTower, vectors: torch.Tensor) -> None:
    rows = [[0] * 8, [0, 0, 0, 0, 0, 1, 2, 3], [1, 2, 3, 4, 5, 6, 7, 8]]
    users = [[0, 0], [1, 4], [2, 5]]
    items = torch.tensor(rows)
    with torch.no_grad():
        together = tower(torch.tensor(users), items, vectors[items])
    for row, user, queries in zip(rows, users, together, strict=True):
        assert torch.allclose(ask(tower, vectors, row, user), queries, atol=1e-5)


def test_what_stands_behind_padding_does_not_matter(tower: QueryTower, vectors: torch.Tensor) -> None:
    odd = vectors.clone()
    odd[0] = 100
    history = [0, 0, 0, 0, 0, 0, 5, 9]
    assert torch.equal(ask(tower, odd, history, [1, 4])[-2:], ask(tower, vectors, history, [1, 4])[-2:])


def test_the_order_of_a_history_matters(tower: QueryTower, vectors: torch.Tensor) -> None:
    one, other = (ask(tower, vectors, history, [1, 4])[-1] for history in ([1, 2, 3], [2, 1, 3]))
    assert not torch.allclose(one, other, atol=1e-3)


def test_a_users_features_matter_at_every_position(tower: QueryTower, vectors: torch.Tensor) -> None:
    known, other, unknown = (ask(tower, vectors, [0, 2, 3], user) for user in ([1, 4], [2, 4], [0, 0]))
    for one in (other, unknown):
        assert ((known - one).abs().max(dim=1).values > 1e-3).all()


def test_an_unknown_user_without_history_is_served_from_the_first_token(
    tower: QueryTower, vectors: torch.Tensor
) -> None:
    query = ask(tower, vectors, [0] * HISTORY, [0, 0])[-1]
    assert query.isfinite().all()
    assert not torch.allclose(query, ask(tower, vectors, [0] * HISTORY, [1, 4])[-1], atol=1e-3)


def test_only_training_drops_out(tower: QueryTower, vectors: torch.Tensor) -> None:
    history = [1, 2, 3, 4]
    assert torch.equal(*(ask(tower, vectors, history, [1, 4]) for _ in range(2)))
    tower.train()
    try:
        assert not torch.equal(*(ask(tower, vectors, history, [1, 4]) for _ in range(2)))
    finally:
        tower.eval()
