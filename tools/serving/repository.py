"""Model repositories: a release's own models, and the repository that Triton serves.

The committed `model_repository/` is the source. A release carries a copy with its build's widths; the served
repository carries one copy per release, with the release in every model's name, and `recommend`, which points
at the stages of the active release. Nothing here edits a committed file.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonrec_client.contract import MODELS, RECOMMEND, STAGES, Sizes

from python_backend.release import Release

SOURCE = Path(__file__).parents[2] / "model_repository"
"""The committed model repository."""

CONFIG = "config.pbtxt"
GENERATED = "# Written by tools/serving/repository.py from model_repository/; edits are lost.\n\n"
RELEASE_MODEL = re.compile(rf"({'|'.join(MODELS)})_[0-9a-f]{{12}}")


class RepositoryError(ValueError):
    """A model repository that cannot be written as asked; the message says why."""


def read_config(path: Path) -> ModelConfig:
    """The model configuration in the file `path`; RepositoryError where it is not one."""
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except text_format.ParseError as error:
        raise RepositoryError(f"{path}: not a model configuration: {error}") from error


def write_config(config: ModelConfig, path: Path) -> None:
    """Write `config` to `path` in one step: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(GENERATED + text_format.MessageToString(config, as_utf8=True), encoding="utf-8")
    fresh.replace(path)


def write_release_models(sizes: Sizes, folder: Path, *, source: Path = SOURCE) -> None:
    """Copy the models of `source` to `folder`, with the widths of `sizes` in every configuration.

    `folder` must not exist yet. The widths come from the contract: of inputs, outputs and warm-up samples.
    """
    folder.mkdir(parents=True)
    for name, model in MODELS.items():
        shutil.copytree(
            source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".gitkeep")
        )
        (folder / name / "1").mkdir(exist_ok=True)
        widths = {tensor.name: tensor.resolve(sizes) for tensor in (*model.inputs, *model.outputs)}
        for path in _config_files(folder / name):
            config = read_config(path)
            tensors = [(tensor.name, tensor) for tensor in (*config.input, *config.output)]
            for warmup in config.model_warmup:
                tensors += warmup.inputs.items()
            for tensor_name, tensor in tensors:
                if tensor_name not in widths:
                    raise RepositoryError(f"{path}: {tensor_name} is not a tensor of {name} in the contract")
                tensor.dims[:] = [widths[tensor_name]]
            write_config(config, path)


def write_served_repository(
    releases: Sequence[Path], active: str, folder: Path, *, overrides: Mapping[str, str] | None = None
) -> None:
    """Write the repository that serves `releases`, with `recommend` pointing at the release named `active`.

    `releases` are release folders, `overrides` values for parameters of the stages' configurations such as
    ``store_url`` or ``rules_file``. An existing `folder` is brought up to date in an order that a running
    server survives: new models appear whole, `recommend` changes in one step, and last the models of releases
    that are no longer listed go. Nothing else in `folder` is touched.

    Raises RepositoryError for an unknown active release or an override that no stage knows, before anything
    is written.
    """
    opened = {release.name: release for release in (Release.open(path.resolve()) for path in releases)}
    if active not in opened:
        known = ", ".join(opened) or "none"
        raise RepositoryError(f"release {active} is not among the releases to serve: {known}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        fresh = Path(temporary) / folder.name
        for release in opened.values():
            _write_release(release, fresh, overrides or {})
        _write_ensemble(opened[active], RECOMMEND.name, fresh)
        fresh.chmod(0o755)
        if not folder.exists():
            fresh.rename(folder)
            return
        wanted = {path.name for path in fresh.iterdir()}
        for path in sorted(fresh.iterdir(), key=lambda path: (path.name == RECOMMEND.name, path.name)):
            _put_in_place(path, folder / path.name)
    for path in folder.iterdir():
        if RELEASE_MODEL.fullmatch(path.name) and path.name not in wanted:
            shutil.rmtree(path)


def _write_release(release: Release, folder: Path, overrides: Mapping[str, str]) -> None:
    values = {**overrides, "release_dir": str(release.path)}
    unknown = set(values)
    for stage in STAGES:
        name = f"{stage.name}_{release.name}"
        for path, config in _copy_model(release, stage.name, folder / name):
            config.name = name
            for key in values.keys() & config.parameters.keys():
                config.parameters[key].string_value = values[key]
                unknown.discard(key)
            write_config(config, path)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise RepositoryError(f"no stage of release {release.name} has a parameter {names}")
    _write_ensemble(release, f"{RECOMMEND.name}_{release.name}", folder)


def _write_ensemble(release: Release, name: str, folder: Path) -> None:
    for path, config in _copy_model(release, RECOMMEND.name, folder / name):
        config.name = name
        for step in config.ensemble_scheduling.step:
            step.model_name = f"{step.model_name}_{release.name}"
        write_config(config, path)


def _copy_model(release: Release, model: str, target: Path) -> list[tuple[Path, ModelConfig]]:
    """Copy one of the release's models to `target`; each configuration there, with its content to change."""
    source = release.path / "models" / model
    configs = [(target / path.relative_to(source), read_config(path)) for path in _config_files(source)]
    shutil.copytree(source, target)
    return configs


def _config_files(model: Path) -> list[Path]:
    """A model's configuration and those of its other profiles."""
    return [model / CONFIG, *sorted((model / "configs").glob("*.pbtxt"))]


def _put_in_place(source: Path, target: Path) -> None:
    """Move a model's folder to `target`; file by file where it is there already."""
    if not target.exists():
        source.rename(target)
        return
    for path in sorted(source.rglob("*")):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            path.replace(target / path.relative_to(source))
