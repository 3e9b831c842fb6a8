"""The TOML file that says how models are run on one machine: what tools/tune.py found, or a person knows."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from tritonrec_client.contract import MODELS, RECOMMEND

from tools.config.build import ConfigError
from tools.data.problems import shown

TUNING = "tuning.toml"
"""What the file is called in a build and beside what is served."""

TUNED_MODELS = tuple(name for name in MODELS if name != RECOMMEND.name)
"""The models that may be tuned: those that compute. The ensemble only says who comes after whom."""


class ModelTuning(BaseModel):
    """One model's table. What is not named stays as its release says."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    instances: int | None = Field(None, ge=1, le=64)
    """Processes that run the model."""
    threads: int | None = Field(None, ge=1, le=256)
    """BLAS, OpenMP and ONNX Runtime threads of each process."""
    max_queue_delay_microseconds: int | None = Field(None, ge=0, le=1_000_000)
    """How long a request waits for company while an instance is free."""
    preferred_batch_size: int | None = Field(None, ge=1, le=1024)
    """The rows up to which waiting requests are put together; with a queue delay, those that waited longer
    may be more. The model's max_batch_size, or more, is no limit of its own; a single request may always
    bring that many rows."""

    @property
    def values(self) -> dict[str, int]:
        """What is named, by its key."""
        return self.model_dump(exclude_none=True)


Tuning = Mapping[str, ModelTuning]
"""A whole file: a table per model, by the model's name in the contract."""

_FILE = TypeAdapter(dict[str, ModelTuning])


def load_tuning(path: str | Path) -> dict[str, ModelTuning]:
    """Read and check the TOML file at `path`.

    Raises ConfigError, which lists every problem: the file, the key, what was found, what is allowed.
    """
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: is not TOML: {error}"]) from error
    problems = [_unknown(name, "model", TUNED_MODELS) for name in content if name not in TUNED_MODELS]
    try:
        tuning = _FILE.validate_python({name: content[name] for name in content if name in TUNED_MODELS})
    except ValidationError as error:
        problems += [_describe(dict(problem)) for problem in error.errors()]
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    return tuning


def dump_tuning(tuning: Tuning, note: str = "") -> str:
    """`tuning` as TOML, with the lines of `note` as comments above it."""
    lines = [f"# {line}".rstrip() for line in note.splitlines()]
    for model, table in tuning.items():
        if table.values:
            lines += ["", f"[{model}]", *(f"{key} = {value}" for key, value in table.values.items())]
    return "\n".join(lines).lstrip("\n") + "\n"


def describe_tuning(tuning: Tuning) -> str:
    """`tuning` in a line: ``pipeline instances 3, threads 1; rank threads 2``."""
    tables = (
        (model, ", ".join(f"{key} {value}" for key, value in table.values.items()))
        for model, table in tuning.items()
    )
    return "; ".join(f"{model} {words}" for model, words in tables if words)


def _describe(error: dict[str, Any]) -> str:
    """One of pydantic's errors as a person would write it."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return _unknown(key, "key", tuple(ModelTuning.model_fields))
    allowed = error["msg"].removeprefix("Input should be ")
    if error["type"] == "model_type":
        allowed = f"a table, [{key}], with {', '.join(ModelTuning.model_fields)}"
    return f"{key}: found {shown(error['input'])}; allowed: {allowed}"


def _unknown(key: str, what: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(key.rpartition(".")[2], known, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{key}: is not a known {what}; {meant}allowed here: {', '.join(known)}"
