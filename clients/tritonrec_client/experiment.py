"""Experiments: which users are shown the pages of which release.

Users are split by a hash of the experiment's name and their wire id, so that every process that reads the
same file gives a user the same arm, and nothing about users needs to be kept.
"""

from __future__ import annotations

import math
import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from tritonrec_client import contract

NAME = re.compile(r"[a-z0-9_-]{1,40}")
RELEASE = re.compile(r"[0-9a-f]{12}")

NAME_ALLOWED = "1 to 40 lower-case letters, digits, hyphens and underscores"
ARM_ALLOWED = f"as an arm's name {NAME_ALLOWED}, but nothing that ends like a release's own model"

_LIKE_A_RELEASE = re.compile(rf"(.*_)?{RELEASE.pattern}")


def arm_model(arm: str) -> str:
    """The name under which Triton serves the ensemble of `arm`.

    Raises ValueError where an arm may not be called so: its model must not look like a release's, whose name
    ends with 12 hexadecimal digits.
    """
    _require(NAME.fullmatch(arm) and not _LIKE_A_RELEASE.fullmatch(arm), "arms", repr(arm), ARM_ALLOWED)
    return f"{contract.RECOMMEND.name}_{arm}"


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the things that an experiment compares."""

    name: str
    release: str
    """12 hexadecimal digits."""
    weight: float
    """The share of the users, 0 to 1, once it is part of an experiment."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Two or more releases, and how users are split between them.

    The weights of `arms` are normalised to a sum of 1. Raises ValueError naming the key, what was found
    and what is allowed.
    """

    name: str
    arms: tuple[Arm, ...]
    _bounds: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        is_name = isinstance(self.name, str) and NAME.fullmatch(self.name)
        _require(is_name, "name", repr(self.name), NAME_ALLOWED)
        _require(len(self.arms) >= 2, "arms", f"{len(self.arms)} of them", "two or more")
        releases: dict[str, str] = {}
        for arm in self.arms:
            _check_arm(arm)
            other = releases.setdefault(arm.release, arm.name)
            if other != arm.name:
                found = f"{arm.release!r}, the release of arms.{other}"
                raise _refusal(f"arms.{arm.name}.release", found, "another release in each arm")
        names = [arm.name for arm in self.arms]
        _require(len(set(names)) == len(names), "arms", repr(names), "arms with different names")
        total = sum(arm.weight for arm in self.arms)
        _require(0 < total < math.inf, "arms", f"weights with a sum of {total}", "a finite sum above 0")
        arms = tuple(Arm(arm.name, arm.release, arm.weight / total) for arm in self.arms)
        sums = list(accumulate(arm.weight for arm in arms))
        object.__setattr__(self, "arms", arms)
        object.__setattr__(self, "_bounds", tuple(bound / sums[-1] for bound in sums))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The experiment in the TOML file at `path`.

        ``name`` and a table ``[arms.<name>]`` with ``release`` and ``weight`` for each arm. Raises OSError,
        and ValueError naming the file, the key, what was found and what is allowed.
        """
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            return cls._from_document(document)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from None
        except ValueError as error:  # also what tomllib raises
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def _from_document(cls, document: Mapping[str, Any]) -> Self:
        _check_keys(document, ("name", "arms"), "")
        arms = document["arms"]
        _require(isinstance(arms, dict), "arms", repr(arms), "a table [arms.<name>] for each arm")
        for name, arm in arms.items():
            _require(isinstance(arm, dict), f"arms.{name}", repr(arm), "a table with release and weight")
            _check_keys(arm, ("release", "weight"), f"arms.{name}.")
        return cls(
            document["name"], tuple(Arm(name, arm["release"], arm["weight"]) for name, arm in arms.items())
        )

    def arm_of(self, user: int) -> str:
        """The name of the arm of the user with the wire id `user`.

        A hash of the experiment's name and the id gives each user a place between 0 and 1, and the arms take
        their shares of that line in the file's order. So a user's arm never changes while the file does not,
        other experiments split users independently, and of two arms the one that grows takes only as
        many users from the other as it grows by.
        """
        digest = blake2b(f"{self.name}\0{user}".encode(), digest_size=8).digest()
        place = (int.from_bytes(digest, "big") >> 11) / 2**53  # as many bits as a float can hold
        return self.arms[bisect_right(self._bounds, place)].name


def _check_arm(arm: Arm) -> None:
    arm_model(arm.name)
    key = f"arms.{arm.name}"
    is_release = isinstance(arm.release, str) and RELEASE.fullmatch(arm.release)
    _require(is_release, f"{key}.release", repr(arm.release), "a release's name: 12 hexadecimal digits")
    is_number = isinstance(arm.weight, int | float) and not isinstance(arm.weight, bool)
    is_weight = is_number and math.isfinite(arm.weight) and arm.weight >= 0
    _require(is_weight, f"{key}.weight", repr(arm.weight), "a finite number of at least 0")


def _check_keys(table: Mapping[str, Any], allowed: Iterable[str], prefix: str) -> None:
    """Raises ValueError for the first key that is unknown or missing."""
    allowed = tuple(allowed)
    for key in table:
        if key not in allowed:
            raise _refusal(f"{prefix}{key}", "an unknown key", " and ".join(allowed))
    for key in allowed:
        if key not in table:
            raise _refusal(f"{prefix}{key}", "nothing", f"the keys {' and '.join(allowed)}, both of them")


def _require(condition: object, key: str, found: str, allowed: str) -> None:
    if not condition:
        raise _refusal(key, found, allowed)


def _refusal(key: str, found: str, allowed: str) -> ValueError:
    return ValueError(f"{key}: found {found}; allowed is {allowed}")
