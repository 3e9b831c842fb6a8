"""The environment's feature store takes the place of a file's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.config.build import STORE, ConfigError, load_config

SHIPPED = Path(__file__).parents[3] / "tools" / "config" / "movielens-100k.toml"


def test_the_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config(SHIPPED).store.url == "lmdb://build/store"
    monkeypatch.setenv(STORE, "redis://tritonrec-redis:6379/0")

    assert load_config(SHIPPED).store.url == "redis://tritonrec-redis:6379/0"


def test_what_is_no_store_is_refused_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE, "tritonrec-redis:6379")

    with pytest.raises(ConfigError, match=r"store\.url: found 'tritonrec-redis:6379'"):
        load_config(SHIPPED)
