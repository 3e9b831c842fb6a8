"""Reading a configuration's TOML file, and the one that it is based on."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

BASE = "base"
"""The key that names another file, whose content this one's is laid over."""


class ConfigError(ValueError):
    """The configuration cannot be used; `problems` holds one readable line for each thing to change."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


def read_toml(path: Path, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], str]:
    """The content of the file at `path`, laid over that of its `base`, if it names one, and where it is from.

    A base's path starts at the folder of the file that names it. Tables are laid over each other key by key;
    all else, lists of tables too, is replaced as a whole. `above` are the files that led here. Raises
    ConfigError.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: is not TOML: {error}"]) from error
    if BASE not in content:
        return content, str(path)
    base = content.pop(BASE)
    if not isinstance(base, str) or not base:
        raise ConfigError([f"{path}: {BASE}: found {base!r}; allowed is the path of another TOML file"])
    chain = (*above, path.resolve())
    if (path.parent / base).resolve() in chain:
        raise ConfigError([f"{path}: {BASE}: found {base!r}, which is based on this file itself"])
    below, place = read_toml(path.parent / base, chain)
    return laid_over(below, content), f"{path}, laid over {place}"


def laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """What `above` says, and where it says nothing what `below` does."""
    result = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, dict) and isinstance(below.get(key), dict)
        result[key] = laid_over(below[key], value) if both_tables else value
    return result
