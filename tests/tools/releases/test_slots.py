"""What a refresh does with several channels and rankers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from python_backend.release import Release
from python_backend.stages.merge import Merge, Voice, Weights
from python_backend.stages.retrieve import Retrieve
from tools.channels.channel import Material
from tools.config.build import BuildConfig, ConfigError
from tools.data.interactions import Interactions
from tools.releases.slots import more_steps, refresh_slots
from tools.training.features import Features

ITEMS, USERS, WIDTH = 40, 12, 6
CHANNELS = [{"model": "transformer", "quota": 20}, {"model": "popularity", "quota": 20}]


def config(**sections: Any) -> BuildConfig:
    data = {"events": {"path": "e.csv", "user": "u", "item": "i", "timestamp": "t"}}
    contract = {
        "candidates": 20,
        "results": 5,
        "history": WIDTH,
        "seen": 16,
        "session": 2,
        "user_features": 1,
    }
    return BuildConfig.model_validate({"name": "shop", "data": data, "contract": contract, **sections})


@pytest.fixture
def material() -> Material:
    random = np.random.default_rng(0)
    items = np.concatenate([random.permutation(ITEMS)[:5] + 1 for _ in range(USERS)]).astype(np.int32)
    offsets = np.arange(0, 5 * USERS + 1, 5)
    interactions = Interactions(
        offsets, items, np.tile(np.arange(5), USERS), np.arange(USERS), np.arange(-1, ITEMS)
    )
    titles = [f"item {number}" for number in range(ITEMS)]
    features = Features(np.zeros((USERS, 1), np.int32), np.zeros((ITEMS + 1, 1), np.int32), None, None)  # type: ignore[arg-type]
    return Material(interactions, features, titles, WIDTH, 1, {})


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """One that was built with a transformer and popularity."""
    voices = [Voice("transformer", 1, Weights(found=0.25)), Voice("popularity", 10, Weights(found=0.5))]
    path = tmp_path / "00ab12cd34ef"
    Merge(voices, 60.0, 20).write(path / "artifacts" / "merge")
    return Release(path.name, config().sizes, path)


@contextlib.contextmanager
def step(text: str) -> Iterator[Any]:
    yield lambda done, total, said: None


def test_channels_are_fitted_anew_and_the_merge_is_kept(
    release: Release, material: Material, tmp_path: Path
) -> None:
    folder = tmp_path / "slots"
    folder.mkdir()
    refresh_slots(config(channels=CHANNELS), release, material, step, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["merge", "retrieve_popularity"]
    before, after = (Merge.open(path / "merge", 20) for path in (release.artifacts, folder))
    assert after.voices == before.voices
    stage = Retrieve.open(folder / "retrieve_popularity", candidates=20)
    none = {"user_features": np.zeros((1, 1), np.int32), "history": np.zeros((1, WIDTH), np.int32)}
    found = stage({**none, "seen": np.zeros((1, 16), np.int32)})["candidate"][0]
    assert found[0] in np.flatnonzero(
        material.interactions.popularity() == material.interactions.popularity().max()
    )


def test_other_channels_than_the_release_has_need_a_build(
    release: Release, material: Material, tmp_path: Path
) -> None:
    wanted = config(channels=[*CHANNELS, {"model": "ease", "quota": 20}])
    with pytest.raises(ConfigError, match="release 00ab12cd34ef has transformer, popularity: build without"):
        refresh_slots(wanted, release, material, step, tmp_path)


def test_rankers_beside_the_main_one_need_a_build(
    release: Release, material: Material, tmp_path: Path
) -> None:
    wanted = config(rankers=[{"model": "main"}, {"model": "dnn"}])
    with pytest.raises(ConfigError, match="found dnn; a refresh trains main alone"):
        refresh_slots(wanted, release, material, step, tmp_path)


def test_progress_counts_the_steps_that_slots_add() -> None:
    assert more_steps(config()) == more_steps(config(), refresh=True) == 0
    assert more_steps(config(channels=CHANNELS)) == 3
    assert more_steps(config(rankers=[{"model": "dnn"}])) == 1
    assert more_steps(config(channels=CHANNELS), refresh=True) == 1
