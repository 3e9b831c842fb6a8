"""The operator's rules: items that must not appear, items that must, and caps per category.

A TOML file beside the served repository, in the data's own ids:

    blocked = [17, "sku-4"]

    [[pinned]]
    item = 50
    position = 1        # the first place of the page

    [[caps]]
    field = "class"     # an item feature of the build
    at_most = 6         # items of the page with the same value
"""

from __future__ import annotations

import logging
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

LOGGER = logging.getLogger(__name__)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pinned(_Part):
    """An item at a fixed place, counted from 1."""

    item: int | str
    position: int = Field(ge=1)


class Cap(_Part):
    """At most so many items with the same value of an item feature."""

    field: str
    at_most: int = Field(ge=1)


class Rules(_Part):
    """What operators ask of every page."""

    blocked: tuple[int | str, ...] = ()
    pinned: tuple[Pinned, ...] = ()
    caps: tuple[Cap, ...] = ()

    @model_validator(mode="after")
    def _one_item_a_place(self) -> Rules:
        places = [pin.position for pin in self.pinned]
        if len(set(places)) != len(places):
            raise ValueError("pinned: two items have the same position; allowed is one each")
        return self


class InvalidRules(ValueError):
    """A rules file that cannot be used; the message names file, key, what was found and what is allowed."""


def read_rules(path: Path) -> Rules:
    """The rules in the TOML file `path`. Raises InvalidRules."""
    try:
        return Rules.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRules(f"{path}: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}, found {problem['input']!r}"
            for problem in error.errors()
        )
        raise InvalidRules(f"{path}: {problems}") from error


class RulesFile:
    """A rules file that is read again when it changes.

    A file that is broken when first read is refused; one that becomes broken later is reported once and
    the last good rules stay in force, because a typing error must not change pages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._read_stamp()
        self.rules = read_rules(path)

    def changed(self) -> bool:
        """Look at the file; True where new rules have come into force."""
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.rules = read_rules(self._path)
        except InvalidRules as error:
            LOGGER.error("the last good rules stay in force: %s", error)
            return False
        return True

    def _read_stamp(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_ino, status.st_size)
