"""The configurations of large models, and of a small one that has a teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from python_backend.features import FeatureEncoder
from tools.config.build import BuildConfig, ConfigError, load_config, require_teacher
from tools.training.features import Features
from tools.training.retriever import Retriever

CONFIGS = Path(__file__).parents[3] / "tools" / "config"
SMALL = """
name = "shop"
[data.events]
path = "events.csv"
user = "user"
item = "item"
timestamp = "time"
"""


def no_features(config: BuildConfig) -> Features:
    none = FeatureEncoder.fit((), [], config.sizes.user_features)
    return Features(np.zeros((0, 3), np.int32), np.zeros((2, 1), np.int32), none, FeatureEncoder.fit((), []))


def test_the_large_model_has_a_hundred_million_parameters_and_looks_back_on_512_items() -> None:
    config = load_config(CONFIGS / "large.toml")
    with torch.device("meta"):  # counted, not made
        model = Retriever(config.retrieve, no_features(config), config.sizes.history)
    # Neither items nor features are counted: those are the catalogue's.
    parameters = sum(each.numel() for each in (*model.tower.blocks.parameters(), model.tower.positions))
    assert parameters >= 100_000_000
    assert config.sizes.history == 512
    assert model.tower.positions.shape == (512, config.retrieve.width)


@pytest.mark.parametrize("name", ["large", "movielens-100k-teacher"])
def test_a_teacher_learns_from_the_tables_of_the_shipped_configuration(name: str) -> None:
    large, small = load_config(CONFIGS / f"{name}.toml"), load_config(CONFIGS / "movielens-100k.toml")
    assert large.data == small.data
    assert large.sizes.user_features == small.sizes.user_features
    assert large.name == name


def config_of(tmp_path: Path, text: str) -> BuildConfig:
    (tmp_path / "build.toml").write_text(SMALL + text)
    return load_config(tmp_path / "build.toml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[retrieve.distil]", "retrieve.distil.teacher: is missing and has no default"),
        ('[retrieve.distil]\nteacher = "t"\nweight = 0', "retrieve.distil.weight: found 0; allowed: greater"),
        (
            '[retrieve.distil]\nteacher = "t"\ntemprature = 1',
            "retrieve.distil.temprature: is not a known key",
        ),
        ("[distributed]\naccumulate = 0", "distributed.accumulate: found 0; allowed: greater"),
        (
            '[distributed]\nprecision = "fp8"',
            "distributed.precision: found 'fp8'; allowed: 'auto', 'float32'",
        ),
    ],
)
def test_a_mistake_is_told_with_its_key(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=r"build\.toml") as caught:
        config_of(tmp_path, text)
    assert any(problem in line for line in caught.value.problems), caught.value.problems


def test_a_teacher_that_is_not_there_is_told_before_any_work(tmp_path: Path) -> None:
    config = config_of(tmp_path, f'[retrieve.distil]\nteacher = "{tmp_path}/model.pt"')
    with pytest.raises(ConfigError, match=r"retrieve.distil.teacher: found '.*model.pt', which is no file"):
        require_teacher(config)
    (tmp_path / "model.pt").touch()
    require_teacher(config)
    require_teacher(config_of(tmp_path, ""))
