"""What an environment says takes the place of a file's store, and adds the profile that is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.config.build import PROFILE, STORE, ConfigError, load_config

SHIPPED = Path(__file__).parents[3] / "tools" / "config" / "movielens-100k.toml"


def test_the_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config(SHIPPED).store.url == "lmdb://build/store"
    monkeypatch.setenv(STORE, "redis://tritonrec-redis:6379/0")

    assert load_config(SHIPPED).store.url == "redis://tritonrec-redis:6379/0"


def test_what_is_no_store_is_refused_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE, "tritonrec-redis:6379")

    with pytest.raises(ConfigError, match=r"store\.url: found 'tritonrec-redis:6379'"):
        load_config(SHIPPED)


@pytest.mark.parametrize(
    ("served", "profiles"), [("gpu", ("gpu",)), ("gpu_torch", ("gpu_torch",)), ("local", ()), ("staged", ())]
)
def test_builds_of_a_cluster_are_for_the_profile_that_it_serves(
    served: str, profiles: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROFILE, served)

    assert load_config(SHIPPED).profiles == profiles


def test_a_profile_that_a_file_names_is_not_named_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "build.toml"
    file.write_text('profiles = ["gpu_torch"]\n' + SHIPPED.read_text())
    monkeypatch.setenv(PROFILE, "gpu_torch")
    assert load_config(file).profiles == ("gpu_torch",)

    monkeypatch.setenv(PROFILE, "gpu")
    assert load_config(file).profiles == ("gpu_torch", "gpu")
