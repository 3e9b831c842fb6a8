from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import HISTORY, features_of, rank_config, retrieve_config
from tritonrec_client.contract import Sizes

from python_backend.release import Release
from tools.config.build import ConfigError
from tools.training.checkpoint import Checkpoint, NoCheckpointError, write_checkpoint
from tools.training.features import Features
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

ITEMS = 6
IDS = np.array([-1, 50, 40, 30, 20, 10, 0], dtype=np.int64)


@pytest.fixture
def features() -> Features:
    return features_of(3, ITEMS)


@pytest.fixture
def models(features: Features) -> tuple[Retriever, Ranker]:
    torch.manual_seed(0)
    retriever = Retriever(retrieve_config(), features, HISTORY)
    torch.nn.init.normal_(retriever.bias[1:].data)
    return retriever, Ranker(rank_config(), features, HISTORY)


@pytest.fixture
def release(tmp_path: Path, models: tuple[Retriever, Ranker]) -> Release:
    write_checkpoint(tmp_path, *models)
    (tmp_path / "artifacts").mkdir()
    np.savez(tmp_path / "artifacts" / "items.npz", wire_id=IDS)
    return Release("0123456789ab", Sizes(), tmp_path)


def items_of(features: Features, rows: list[int]) -> Features:
    """The same features with other items: those of `rows`, whatever they are called."""
    return replace(features, items=features.items[[0, *rows]])


def test_the_same_catalogue_gives_the_same_models(
    release: Release, features: Features, models: tuple[Retriever, Ranker]
) -> None:
    checkpoint = Checkpoint.of(release)
    retriever = Retriever(retrieve_config(), features, HISTORY)
    ranker = Ranker(rank_config(), features, HISTORY)

    checkpoint.load_retriever(retriever, IDS)
    checkpoint.load_ranker(ranker, IDS)

    for loaded, original in zip((retriever, ranker), models, strict=True):
        for name, weight in original.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], weight), name


def test_items_keep_their_weights_where_they_stand_elsewhere_and_new_ones_keep_their_own(
    release: Release, features: Features, models: tuple[Retriever, Ranker]
) -> None:
    now = np.array([-1, 10, 77, 40], dtype=np.int64)
    retriever = Retriever(retrieve_config(), items_of(features, [5, 1, 2]), HISTORY)
    fresh = retriever.items.identity.weight[2].clone()

    Checkpoint.of(release).load_retriever(retriever, now)

    original = models[0]
    assert torch.equal(retriever.items.identity.weight[1], original.items.identity.weight[5])
    assert torch.equal(retriever.items.identity.weight[2], fresh)
    assert torch.equal(retriever.items.identity.weight[3], original.items.identity.weight[2])
    assert retriever.bias[1] == original.bias[5]


def test_rows_of_items_that_it_does_not_have_are_0(release: Release) -> None:
    checkpoint = Checkpoint.of(release)
    assert checkpoint.rows_of(np.array([-1, 0, 50, 51, 2**62])).tolist() == [0, 6, 1, 0, 0]


def test_models_of_another_form_are_refused_with_what_differs(release: Release, features: Features) -> None:
    wider = Retriever(retrieve_config(width=16), features, HISTORY)
    with pytest.raises(ConfigError, match=r"another form than \[retrieve\].*build without --refresh"):
        Checkpoint.of(release).load_retriever(wider, IDS)


def test_a_release_without_weights_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NoCheckpointError, match="0123456789ab holds no weights"):
        Checkpoint.of(Release("0123456789ab", Sizes(), tmp_path))


def test_the_same_weights_give_the_same_bytes(tmp_path: Path, models: tuple[Retriever, Ranker]) -> None:
    for folder in ("one", "two"):
        write_checkpoint(tmp_path / folder, *models)
    for name in ("retriever.npz", "ranker.npz"):
        first, second = ((tmp_path / folder / "training" / name).read_bytes() for folder in ("one", "two"))
        assert first == second
