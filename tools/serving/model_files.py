"""Model configurations as files."""

from __future__ import annotations

import os
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

CONFIG = "config.pbtxt"
GENERATED = "# Written by tools/serving/repository.py from model_repository/; edits are lost.\n\n"


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


def config_files(model: Path) -> list[Path]:
    """A model's configuration and those of its other profiles."""
    return [model / CONFIG, *sorted((model / "configs").glob("*.pbtxt"))]
