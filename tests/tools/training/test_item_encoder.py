from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from toy import features_of

from tools.training.item_encoder import FeatureEmbedding, ItemEncoder

N_ITEMS, WIDTH = 30, 8


@dataclass(frozen=True)
class Field:
    start: int
    slots: int


def item_encoder(*, described: bool = True) -> ItemEncoder:
    torch.manual_seed(0)
    features = features_of(3, N_ITEMS, described=described)
    encoder = features.item_encoder
    return ItemEncoder(encoder.fields, torch.from_numpy(features.items), encoder.code_count, WIDTH)


def gradients(encoder: ItemEncoder, value: torch.Tensor) -> list[torch.Tensor]:
    encoder.zero_grad()
    value.backward()
    return [parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None]


def test_a_fields_vector_is_the_mean_over_its_codes_and_fields_add_up() -> None:
    embedding = FeatureEmbedding([Field(0, 3), Field(3, 1)], 5, code_count=8, width=4)
    vectors = embedding.embedding.weight
    found = embedding(torch.tensor([[1, 2, 0, 7, 0], [3, 4, 5, 0, 0], [0, 0, 0, 0, 0]]))
    expected = [(vectors[1] + vectors[2]) / 2 + vectors[7], vectors[3:6].mean(dim=0), torch.zeros(4)]
    assert torch.allclose(found, torch.stack(expected), atol=1e-7)


def test_missing_codes_add_nothing_and_learn_nothing() -> None:
    embedding = FeatureEmbedding([Field(0, 2)], 2, code_count=3, width=4)
    assert not embedding(torch.tensor([[0, 0]])).any()
    embedding(torch.tensor([[0, 1], [0, 0]])).sum().backward()
    assert embedding.embedding.weight.grad is not None
    assert not embedding.embedding.weight.grad[0].any()
    assert embedding.embedding.weight.grad[1].all()


def test_without_any_feature_users_are_alike() -> None:
    embedding = FeatureEmbedding([], 2, code_count=1, width=4)
    assert not embedding(torch.zeros(3, 2, dtype=torch.long)).any()


def test_items_with_the_same_features_differ_by_their_identity_alone() -> None:
    encoder = item_encoder()
    same = [i for i in range(1, N_ITEMS + 1) if torch.equal(encoder.codes[i], encoder.codes[1])][:2]
    assert len(same) == 2
    with torch.no_grad():
        encoder.identity.weight.zero_()
    assert torch.equal(*encoder(torch.tensor(same)))
    assert encoder(torch.tensor(1)).any()


def test_padding_is_a_zero_vector_and_never_learns() -> None:
    encoder = item_encoder()
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=0.1)
    for vectors in (encoder(), encoder(torch.tensor([0, 1, 2])), encoder.table(torch.tensor([0, 1]))[0]):
        assert not vectors[0].any()
        optimiser.zero_grad()
        (vectors + 1).square().sum().backward()
        optimiser.step()
    assert not encoder()[0].any()


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("repeats", [1, 20], ids=["few of the items", "more than the catalogue"])
def test_a_table_equals_the_direct_lookup_with_its_gradients(repeats: int, described: bool) -> None:
    encoder = item_encoder(described=described)
    histories = torch.tensor([[0, 0, 5], [0, 7, 5], [1, 2, 30]], dtype=torch.int32).repeat(repeats, 1)
    targets = torch.tensor([9, 5, 1])
    weights = torch.randn(3 * repeats, 3, WIDTH), torch.randn(3, WIDTH)

    direct = encoder(histories), encoder(targets)
    expected = gradients(encoder, sum((one * w).sum() for one, w in zip(direct, weights, strict=True)))

    vectors, rows = encoder.table(histories, targets)
    assert [part.shape for part in rows] == [histories.shape, targets.shape]
    assert all(part.dtype == torch.long for part in rows)
    looked_up = [vectors[part] for part in rows]
    found = gradients(encoder, sum((one * w).sum() for one, w in zip(looked_up, weights, strict=True)))

    for one, other in zip(direct, looked_up, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert len(found) == len(expected)
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_table_holds_each_item_once_and_padding_first() -> None:
    vectors, (rows,) = item_encoder().table(torch.tensor([7, 3, 7, 0, 3]))
    assert len(vectors) == 3
    assert not vectors[0].any()
    assert rows.tolist() == [2, 1, 2, 0, 1]


def test_padding_is_row_0_of_a_table_even_where_it_does_not_occur() -> None:
    vectors, (rows,) = item_encoder().table(torch.tensor([7, 3]))
    assert not vectors[0].any()
    assert 0 not in rows
