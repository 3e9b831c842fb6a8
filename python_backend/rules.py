"""The operator's rules: items that must not appear, items that must, and caps per category.

A TOML file beside the served repository, in the data's own ids (``17`` and ``"17"`` are different ids):

    blocked = [17, "sku-4"]

    [[pinned]]
    item = 50
    position = 1        # the first place of the page

    [[caps]]
    field = "class"     # an item feature of the build
    at_most = 6         # items of the page with the same value

Replace it in one step, by renaming a finished file over it, so that half of one is never read.
"""

from __future__ import annotations

import logging
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from tritonrec_client.ids import wire_id

LOGGER = logging.getLogger(__name__)


def _checked_id(item: int | str) -> int | str:
    wire_id(item)  # raises ValueError where no item can have this id
    return item


ItemId = Annotated[int | str, BeforeValidator(_checked_id)]
"""An item's id as the data has it."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pinned(_Part):
    """An item at a fixed place, counted from 1."""

    item: ItemId
    position: int = Field(ge=1, strict=True)


class Cap(_Part):
    """At most so many items with the same value of an item feature."""

    field: str
    at_most: int = Field(ge=1, strict=True)


class Rules(_Part):
    """What operators ask of every page."""

    blocked: tuple[ItemId, ...] = ()
    pinned: tuple[Pinned, ...] = ()
    caps: tuple[Cap, ...] = ()

    @model_validator(mode="after")
    def _one_item_a_place(self) -> Rules:
        places: list[int | str] = [pin.position for pin in self.pinned]
        items = [pin.item for pin in self.pinned]
        for what, values in (("position", Counter(places)), ("item", Counter(items))):
            twice = [value for value, count in values.items() if count > 1]
            if twice:
                raise ValueError(f"pinned: the {what} {twice[0]!r} occurs twice; allowed is once")
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
        problems = "; ".join(_describe(dict(problem)) for problem in error.errors())
        raise InvalidRules(f"{path}: {problems}") from error


def _describe(problem: dict[str, Any]) -> str:
    """One of pydantic's errors: the key (entries are counted from 1), what was found, what is allowed."""
    place: tuple[str | int, ...] = problem["loc"]
    message: str = problem["msg"].removeprefix("Value error, ")
    key = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if problem["type"] == "value_error":  # our own checks say what they found
        return f"{key}: {message}" if key else message
    if problem["type"] == "missing":
        return f"{key}: is missing"
    if problem["type"] == "extra_forbidden":
        entries: dict[str | int, type[_Part]] = {"pinned": Pinned, "caps": Cap}
        section = entries.get(place[0], Rules) if len(place) > 1 else Rules
        return f"{key}: is not a known key; allowed here: {', '.join(section.model_fields)}"
    return f"{key}: {message}; found {problem['input']!r}"


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
