"""Release models and the served repository."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup
from tritonrec_client.contract import (
    FEEDBACK,
    MODELS,
    PIPELINE,
    RECOMMEND,
    RETRIEVE_AND_RANK,
    STAGES,
    Sizes,
)

from tools.serving import repository
from tools.serving.model_files import RepositoryError, read_config
from tools.serving.repository import SOURCE, entry_models, write_release_models, write_served_repository

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
WRITERS = {model.name for model in FEEDBACK}
SIZES = Sizes(candidates=50, results=5, history=10, seen=64, session=3, user_features=2)


@pytest.fixture
def releases(new_release: Callable[[str], Path]) -> list[Path]:
    return [new_release(name) for name in (OLD, NEW)]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def models_of(*releases: str) -> set[str]:
    models = (*STAGES, PIPELINE, RETRIEVE_AND_RANK, RECOMMEND)
    return {f"{model.name}_{release}" for model in models for release in releases}


def steps(folder: Path, ensemble: str, profile: str = "config.pbtxt") -> list[str]:
    config = read_config(folder / ensemble / profile)
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

    expected = models_of(OLD, NEW) | {"recommend"}
    assert names(tmp_path / "served") == expected | WRITERS
    for name in expected:
        assert read_config(tmp_path / "served" / name / "config.pbtxt").name == name
        assert (tmp_path / "served" / name / "1").is_dir()


def test_recommend_points_at_the_active_release(tmp_path: Path, releases: list[Path]) -> None:
    write_served_repository(releases, NEW, tmp_path / "served")

    for ensemble, name in (("recommend", NEW), (f"recommend_{OLD}", OLD)):
        assert steps(tmp_path / "served", ensemble) == [f"pipeline_{name}"]
        assert steps(tmp_path / "served", ensemble, "configs/staged.pbtxt") == [
            f"{stage.name}_{name}" for stage in STAGES
        ]


def test_callers_ask_the_ensembles_and_what_writes_but_no_stage(tmp_path: Path, releases: list[Path]) -> None:
    write_served_repository(releases, OLD, tmp_path / "served", arms={"bold": NEW})

    assert set(entry_models(tmp_path / "served")) == {
        "recommend",
        f"recommend_{OLD}",
        f"recommend_{NEW}",
        "recommend_bold",
        *WRITERS,
    }


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


def test_switching_the_active_release_changes_what_has_no_release_in_its_name_alone(
    tmp_path: Path, releases: list[Path]
) -> None:
    served = tmp_path / "served"
    write_served_repository(releases, OLD, served)
    before = contents(served)
    write_served_repository(releases, NEW, served)
    after = contents(served)

    active = {"recommend", *WRITERS}
    assert {name for name in before if before[name] != after[name]} == {
        *(f"recommend/configs/{path.name}" for path in (SOURCE / "recommend" / "configs").iterdir()),
        *(f"{name}/config.pbtxt" for name in active),
    }
    assert before.keys() == after.keys()


def test_a_release_that_is_no_longer_listed_goes_and_nothing_else_does(
    tmp_path: Path, releases: list[Path]
) -> None:
    served = tmp_path / "served"
    write_served_repository(releases, NEW, served)
    (served / "my_own_model").mkdir()
    write_served_repository(releases[1:], NEW, served)

    assert names(served) == models_of(NEW) | {"recommend", "my_own_model"} | WRITERS


def test_what_writes_runs_the_code_of_the_active_release(tmp_path: Path, releases: list[Path]) -> None:
    served = tmp_path / "served"
    write_served_repository(releases, NEW, served, overrides={"store_url": "redis://store:6379/0"})

    for model in WRITERS:
        config = read_config(served / model / "config.pbtxt")
        assert config.name == model
        assert config.parameters["release_dir"].string_value == str(tmp_path / "releases" / NEW)
        assert config.parameters["store_url"].string_value == "redis://store:6379/0"


def test_what_writes_stays_where_an_older_release_has_nothing_of_the_kind(
    tmp_path: Path, releases: list[Path]
) -> None:
    for model in WRITERS:
        shutil.rmtree(releases[0] / "models" / model)
    served = tmp_path / "served"
    write_served_repository(releases, NEW, served)
    before = {name: contents(served / name) for name in WRITERS}
    write_served_repository(releases[:1], OLD, served)

    assert names(served) == models_of(OLD) | {"recommend"} | WRITERS
    assert {name: contents(served / name) for name in WRITERS} == before


def test_a_release_with_other_stages_is_served_with_its_own(tmp_path: Path, releases: list[Path]) -> None:
    models = releases[0] / "models"
    (models / "rank").rename(models / "sort")
    for path in (models / "sort" / "config.pbtxt", *(models / "recommend" / "configs").iterdir()):
        path.write_text(path.read_text().replace('name: "rank"', 'name: "sort"'))
    write_served_repository(releases, NEW, tmp_path / "served")

    assert steps(tmp_path / "served", f"recommend_{OLD}", "configs/staged.pbtxt")[2] == f"sort_{OLD}"
    assert f"rank_{OLD}" not in names(tmp_path / "served")
    write_served_repository(releases[1:], NEW, tmp_path / "served")
    assert f"sort_{OLD}" not in names(tmp_path / "served")


def test_each_arm_of_an_experiment_is_an_ensemble_of_its_own(tmp_path: Path, releases: list[Path]) -> None:
    served = tmp_path / "served"
    write_served_repository(releases, OLD, served, arms={"control": OLD, "bold_2": NEW})

    assert steps(served, "recommend_control") == steps(served, "recommend")
    assert steps(served, "recommend_bold_2") == [f"pipeline_{NEW}"]
    write_served_repository(releases, OLD, served, arms={"control": OLD})
    assert "recommend_bold_2" not in names(served)
    assert "recommend_control" in names(served)


@pytest.mark.parametrize("arm", ["aaaaaaaaaaaa", "a_0123456789ab", "Bold", "", "../x", "a" * 41])
def test_an_arms_name_never_looks_like_a_release(tmp_path: Path, releases: list[Path], arm: str) -> None:
    with pytest.raises(RepositoryError, match=re.escape(f"arms: found {arm!r}; allowed is as an arm's name")):
        write_served_repository(releases, OLD, tmp_path / "served", arms={arm: NEW})
    assert not (tmp_path / "served").exists()


def test_nothing_is_written_when_an_arms_release_is_unknown(tmp_path: Path, releases: list[Path]) -> None:
    with pytest.raises(RepositoryError, match="recommend_bold: release cccccccccccc is not among"):
        write_served_repository(releases, OLD, tmp_path / "served", arms={"bold": "cccccccccccc"})
    assert not (tmp_path / "served").exists()


def test_nothing_is_written_when_the_active_release_is_unknown(tmp_path: Path, releases: list[Path]) -> None:
    with pytest.raises(
        RepositoryError, match=f"cccccccccccc is not among the releases to serve: {OLD}, {NEW}"
    ):
        write_served_repository(releases, "cccccccccccc", tmp_path / "served")

    assert not (tmp_path / "served").exists()


def test_nothing_is_written_when_no_model_knows_an_override(tmp_path: Path, releases: list[Path]) -> None:
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


def test_a_model_for_a_gpu_is_run_on_one_unless_it_is_told_to_do_without(
    tmp_path: Path, releases: list[Path]
) -> None:
    kinds = {}
    for device, overrides in (("cuda", {}), ("cpu", {"device": "cpu"})):
        write_served_repository(releases[:1], OLD, tmp_path / device, overrides=overrides)
        config = read_config(tmp_path / device / f"retrieve_and_rank_{OLD}" / "config.pbtxt")
        assert config.parameters["device"].string_value == device
        kinds[device] = [ModelInstanceGroup.Kind.Name(group.kind) for group in config.instance_group]

    assert kinds == {"cuda": ["KIND_GPU"], "cpu": ["KIND_CPU"]}
