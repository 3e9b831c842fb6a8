"""The configuration that the table of models is made of."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from tools.channels.registry import MODULES
from tools.config.build import BuildConfig, load_config
from tools.config.rankers import RankerConfig

CONFIGS = Path(__file__).parents[3] / "tools" / "config"


def config(name: str) -> BuildConfig:
    return load_config(CONFIGS / f"{name}.toml")


def test_every_kind_of_channel_and_of_ranker_is_in_it_once() -> None:
    models = config("movielens-100k-models")
    assert sorted(channel.model for channel in models.channels) == sorted(["transformer", *MODULES])
    kinds = [get_args(kind.model_fields["model"].annotation) for kind in get_args(get_args(RankerConfig)[0])]
    assert sorted(ranker.model for ranker in models.rankers) == sorted(sum(kinds, ()))


def test_all_channels_find_as_many_items_so_that_their_recall_compares() -> None:
    models = config("movielens-100k-models")
    assert {channel.quota for channel in models.channels} == {models.sizes.candidates}


def test_but_for_that_it_is_the_shipped_configuration() -> None:
    models, shipped = config("movielens-100k-models"), config("movielens-100k")
    for section in ("data", "contract", "retrieve", "rank", "rerank", "seed"):
        assert getattr(models, section) == getattr(shipped, section)
