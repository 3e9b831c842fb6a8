"""Release models and the served repository."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tritonrec_client.contract import MODELS, STAGES, Sizes

from tools.serving import repository
from tools.serving.repository import (
    RepositoryError,
    read_config,
    write_release_models,
    write_served_repository,
)

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
SIZES = Sizes(candidates=50, results=5, history=10, seen=64, session=3, user_features=2)


@pytest.fixture
def releases(new_release: Callable[[str], Path]) -> list[Path]:
    return [new_release(name) for name in (OLD, NEW)]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def steps(folder: Path, ensemble: str) -> list[str]:
    config = read_config(folder / ensemble / "config.pbtxt")
    return [step.model_name for step in config.ensemble_scheduling.step]


@pytest.mark.parametrize("model", MODELS)
def test_a_releases_models_have_the_widths_of_its_build(tmp_path: Path, model: str) -> None:
    write_release_models(SIZES, tmp_path / "models")

    config = read_config(tmp_path / "models" / model / "config.pbtxt")
    widths = {
        tensor.name: tensor.resolve(SIZES) for tensor in (*MODELS[model].inputs, *MODELS[model].outputs)
    }
    assert {tensor.name: list(tensor.dims) for tensor in (*config.input, *config.output)} == {
        name: [width] for name, width in widths.items()
    }
    for warmup in config.model_warmup:
        assert {name: list(sample.dims) for name, sample in warmup.inputs.items()} == {
            tensor.name: [widths[tensor.name]] for tensor in MODELS[model].inputs
        }


def test_every_release_is_served_under_its_own_names(tmp_path: Path, releases: list[Path]) -> None:
    write_served_repository(releases, OLD, tmp_path / "served")

    expected = {f"{model}_{release}" for model in MODELS for release in (OLD, NEW)} | {"recommend"}
    assert {path.name for path in (tmp_path / "served").iterdir()} == expected
    for name in expected:
        assert read_config(tmp_path / "served" / name / "config.pbtxt").name == name
        assert (tmp_path / "served" / name / "1").is_dir()


def test_recommend_points_at_the_active_release(tmp_path: Path, releases: list[Path]) -> None:
    write_served_repository(releases, NEW, tmp_path / "served")

    assert steps(tmp_path / "served", "recommend") == [f"{stage.name}_{NEW}" for stage in STAGES]
    assert steps(tmp_path / "served", f"recommend_{OLD}") == [f"{stage.name}_{OLD}" for stage in STAGES]


def test_a_stage_knows_the_absolute_folder_of_its_release_and_what_was_overridden(
    tmp_path: Path, releases: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = [path.relative_to(tmp_path) for path in releases]
    write_served_repository(
        relative, OLD, tmp_path / "served", overrides={"store_url": "redis://store:6379/0"}
    )

    config = read_config(tmp_path / "served" / f"feature_lookup_{NEW}" / "config.pbtxt")
    assert config.parameters["release_dir"].string_value == str(tmp_path / "releases" / NEW)
    assert config.parameters["store_url"].string_value == "redis://store:6379/0"
    config = read_config(tmp_path / "served" / f"rank_{NEW}" / "config.pbtxt")
    assert "store_url" not in config.parameters


def test_switching_the_active_release_changes_recommend_alone(tmp_path: Path, releases: list[Path]) -> None:
    served = tmp_path / "served"
    write_served_repository(releases, OLD, served)
    before = contents(served)
    write_served_repository(releases, NEW, served)
    after = contents(served)

    assert {name for name in before if before[name] != after[name]} == {"recommend/config.pbtxt"}
    assert before.keys() == after.keys()


def test_a_release_that_is_no_longer_listed_goes_and_nothing_else_does(
    tmp_path: Path, releases: list[Path]
) -> None:
    served = tmp_path / "served"
    write_served_repository(releases, NEW, served)
    (served / "my_own_model").mkdir()
    write_served_repository(releases[1:], NEW, served)

    names = {path.name for path in served.iterdir()}
    assert names == {f"{model}_{NEW}" for model in MODELS} | {"recommend", "my_own_model"}


def test_nothing_is_written_when_the_active_release_is_unknown(tmp_path: Path, releases: list[Path]) -> None:
    with pytest.raises(
        RepositoryError, match=f"cccccccccccc is not among the releases to serve: {OLD}, {NEW}"
    ):
        write_served_repository(releases, "cccccccccccc", tmp_path / "served")

    assert not (tmp_path / "served").exists()


def test_nothing_is_written_when_no_stage_knows_an_override(tmp_path: Path, releases: list[Path]) -> None:
    served = tmp_path / "served"
    write_served_repository(releases, OLD, served)
    before = contents(served)

    with pytest.raises(RepositoryError, match="has a parameter stor_url"):
        write_served_repository(releases, NEW, served, overrides={"stor_url": "redis://store"})
    assert contents(served) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["releases", "served"]


def test_the_committed_repository_is_left_as_it_is(tmp_path: Path, releases: list[Path]) -> None:
    before = contents(repository.SOURCE)
    write_served_repository(releases, NEW, tmp_path / "served")

    assert contents(repository.SOURCE) == before


def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, releases: list[Path]) -> None:
    broken = releases[0] / "models" / "rank" / "config.pbtxt"
    broken.write_text("max_batch_size: many")

    with pytest.raises(RepositoryError, match=re.escape(f"{broken}: not a model configuration")):
        write_served_repository(releases, NEW, tmp_path / "served")
