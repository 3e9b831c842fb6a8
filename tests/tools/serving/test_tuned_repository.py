"""A tuning changes what it names in what is served, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonrec_client.contract import PIPELINE, RECORD_EVENT, STAGES

from python_backend.release import Release
from tools.config.tuning import ModelTuning, Tuning
from tools.serving.model_files import read_config
from tools.serving.repository import read_overrides, write_served_repository
from tools.serving.served import ServedRepository
from tools.serving.tuning import settings_of, tune_config

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
WHOLE = ModelTuning(instances=5, threads=4, max_queue_delay_microseconds=700, preferred_batch_size=16)


@pytest.fixture
def releases(new_release: Callable[[str], Path]) -> list[Path]:
    return [new_release(name) for name in (OLD, NEW)]


def served(folder: Path, releases: list[Path], tuning: Tuning | None, active: str = OLD) -> Path:
    write_served_repository(
        releases, active, folder, overrides={"store_url": "redis://store:6379/0"}, tuning=tuning
    )
    return folder


def configs(folder: Path) -> dict[str, ModelConfig]:
    return {str(path.relative_to(folder)): read_config(path) for path in folder.rglob("*.pbtxt")}


@pytest.mark.parametrize(
    "tuned",
    [("pipeline",), tuple(stage.name for stage in STAGES), ("rank",), ("record_event",)],
    ids=["local profile", "staged profile", "one stage", "a model that stands alone"],
)
def test_exactly_the_named_fields_of_the_named_models_change(
    tmp_path: Path, releases: list[Path], tuned: tuple[str, ...]
) -> None:
    shipped = configs(served(tmp_path / "shipped", releases, None))
    after = configs(served(tmp_path / "tuned", releases, dict.fromkeys(tuned, WHOLE)))

    assert after.keys() == shipped.keys()
    changed = {name for name in shipped if shipped[name] != after[name]}
    alone = tuned == (RECORD_EVENT.name,)
    names = {name if alone else f"{name}_{release}" for name in tuned for release in (OLD, NEW)}
    assert changed == {f"{name}/config.pbtxt" for name in names}
    for name in changed:
        expected = shipped[name]
        for group in expected.instance_group:
            group.count = 5
        expected.parameters["threads"].string_value = "4"
        expected.dynamic_batching.max_queue_delay_microseconds = 700
        expected.dynamic_batching.preferred_batch_size.append(16)
        assert after[name] == expected


@pytest.mark.parametrize("key", ModelTuning.model_fields)
def test_what_a_table_does_not_name_stays_as_the_release_says(
    tmp_path: Path, releases: list[Path], key: str
) -> None:
    shipped = configs(served(tmp_path / "shipped", releases, None))[f"pipeline_{OLD}/config.pbtxt"]
    one = ModelTuning.model_validate({key: getattr(WHOLE, key)})
    after = configs(served(tmp_path / "tuned", releases, {"pipeline": one}))[f"pipeline_{OLD}/config.pbtxt"]

    found, before = settings_of(after).values, settings_of(shipped).values
    assert {name for name in found if found[name] != before[name]} == {key}
    assert found[key] == getattr(WHOLE, key)
    # The batch that is warmed up, and that a client may send, is what it was.
    assert (after.max_batch_size, after.model_warmup) == (shipped.max_batch_size, shipped.model_warmup)


def test_releases_that_are_activated_later_are_tuned_too(tmp_path: Path, releases: list[Path]) -> None:
    tuning = {PIPELINE.name: WHOLE, RECORD_EVENT.name: ModelTuning(max_queue_delay_microseconds=300)}
    folder = served(tmp_path / "served", releases[:1], tuning)
    repository = ServedRepository(folder)
    assert repository.tuning == tuning
    release = Release.open(releases[1])
    repository.put_release(release)
    repository.put_standalone_models(release)

    found = configs(folder)
    assert settings_of(found[f"pipeline_{NEW}/config.pbtxt"]) == WHOLE
    assert found["record_event/config.pbtxt"].dynamic_batching.max_queue_delay_microseconds == 300
    assert found["record_event/config.pbtxt"].parameters["release_dir"].string_value == str(releases[1])
    assert read_overrides(folder) == {"store_url": "redis://store:6379/0"}


def test_without_a_tuning_everything_is_as_shipped_again(tmp_path: Path, releases: list[Path]) -> None:
    shipped = configs(served(tmp_path / "shipped", releases, None))
    served(tmp_path / "served", releases, {PIPELINE.name: WHOLE})
    assert configs(served(tmp_path / "served", releases, None)) == shipped
    assert ServedRepository(tmp_path / "served").tuning == {}


def test_a_model_that_an_older_release_does_not_have_is_passed_over(
    tmp_path: Path, releases: list[Path]
) -> None:
    models = releases[0] / "models"
    (models / "recommend" / "configs" / "staged.pbtxt").replace(models / "recommend" / "config.pbtxt")
    folder = served(tmp_path / "served", releases, {PIPELINE.name: WHOLE})

    assert not (folder / f"pipeline_{OLD}").exists()
    assert settings_of(configs(folder)[f"pipeline_{NEW}/config.pbtxt"]) == WHOLE


def test_a_batch_is_never_larger_than_the_model_takes() -> None:
    config = ModelConfig(max_batch_size=8)
    tune_config(config, ModelTuning(preferred_batch_size=64))
    assert list(config.dynamic_batching.preferred_batch_size) == [8]


def test_the_settings_of_a_configuration_are_those_that_triton_takes() -> None:
    assert settings_of(ModelConfig(max_batch_size=64)).values == {
        "instances": 1,
        "max_queue_delay_microseconds": 0,
        "preferred_batch_size": 64,
    }
