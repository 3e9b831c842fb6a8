"""From raw features to the integer codes that a model embeds.

One mechanism for users and items, for training and serving, so that the two cannot drift apart: the
build fits a `FeatureEncoder` and writes it into the release; the stages read it back and encode with it.
Every value of every field has its own code in one shared code space, so a model needs one embedding
table of `FeatureEncoder.code_count` rows. Code 0 is padding, a missing value, or a value not seen in fitting.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

Kind = Literal["categorical", "numeric", "multi", "text"]
RawFeatures = Mapping[str, Any]
"""Field name → str (categorical, text), float (numeric) or list of str (multi); missing is no such key."""

MOST_MULTI_SLOTS = 8
TEXT_SLOTS = 8
TEXT_MIN_COUNT = 2

_TOKEN = re.compile(r"\w+")
_EXPECTED = {
    "categorical": "a string",
    "numeric": "a number",
    "multi": "a list of strings",
    "text": "a string",
}


class FeatureError(TypeError):
    """A raw feature has the wrong type; the message names the field and the type that was found."""


@dataclass(frozen=True, slots=True)
class FeatureField:
    """What the build is asked to make of one column.

    `slots` is how many codes of the field a row may hold: always 1 for categorical and numeric; by
    default the most values seen in a row, at most 8, for multi; 8 for text. `buckets` is how many
    quantile buckets a numeric field gets at most. A value (or a text's word) in fewer than `min_count`
    rows gets no code; the default is 1, and 2 for text.

    Raises ValueError where a number is out of range or the kind is unknown.
    """

    name: str
    kind: Kind
    slots: int | None = None
    buckets: int = 10
    min_count: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"field {self.name!r}: kind is {self.kind!r}; allowed is {get_args(Kind)}")
        for name, least in (("slots", 1), ("buckets", 2), ("min_count", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"field {self.name!r}: {name} is {value}; it must be at least {least}")
        if self.kind in ("categorical", "numeric") and self.slots not in (None, 1):
            raise ValueError(f"field {self.name!r}: slots is {self.slots}; a {self.kind} field has 1")


@dataclass(frozen=True, slots=True)
class EncodedField:
    """A fitted field: its codes are columns ``start … start + slots`` of an encoded row.

    The value at place p of `vocabulary` has code ``first_code + p``. A number has code ``first_code`` +
    how many `boundaries` are below that number.
    """

    name: str
    kind: Kind
    slots: int
    start: int
    first_code: int
    code_count: int
    vocabulary: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()
    _codes: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        codes = {value: self.first_code + place for place, value in enumerate(self.vocabulary)}
        object.__setattr__(self, "_codes", codes)

    def codes(self, value: object) -> list[int]:
        """At most `slots` codes of one raw value, unknown parts left out. Raises FeatureError."""
        if self.kind == "numeric":
            number = _number(self.name, value)
            if number is None or not self.code_count:
                return []
            return [self.first_code + bisect_left(self.boundaries, number)]
        known = self._codes
        found = [known[part] for part in _parts(self.name, self.kind, value) if part in known]
        return found[: self.slots]


@dataclass(frozen=True, slots=True)
class FeatureEncoder:
    """Raw features → codes, int32 ``[rows, width]``; every code is below `code_count`."""

    fields: tuple[EncodedField, ...]
    width: int

    @classmethod
    def fit(
        cls, fields: Sequence[FeatureField], rows: Sequence[RawFeatures], width: int | None = None
    ) -> Self:
        """The encoder whose vocabularies and quantile boundaries come from `rows`.

        Vocabularies are ordered by frequency, ties by the value, so the same rows in any order give the
        same encoder. `width` pads encoded rows with zeros; None means as many columns as the fields need.

        Raises FeatureError on a value of the wrong type and ValueError where a field occurs twice or
        `width` is smaller than what the fields need.
        """
        names = [wanted.name for wanted in fields]
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise ValueError(f"field {repeated[0]!r} is named twice")
        start, first_code = 0, 1
        fitted = []
        for wanted in fields:
            fitted.append(_fit_field(wanted, rows, start, first_code))
            start += fitted[-1].slots
            first_code += fitted[-1].code_count
        if width is not None and width < start:
            raise ValueError(f"the features need {start} columns but the width is {width}")
        return cls(tuple(fitted), start if width is None else width)

    @property
    def code_count(self) -> int:
        """How many codes there are, code 0 included: the rows of the embedding table."""
        return 1 + sum(one.code_count for one in self.fields)

    def encode(self, rows: Sequence[RawFeatures]) -> npt.NDArray[np.int32]:
        """The codes of `rows`, int32 ``[len(rows), width]``; raises FeatureError on a wrong type."""
        # One flat list: numpy's assignments would cost more than the look-ups.
        flat = [0] * (len(rows) * self.width)
        for number, row in enumerate(rows):
            for one in self.fields:
                value = row.get(one.name)
                if value is not None:
                    begin = number * self.width + one.start
                    for code in one.codes(value):
                        flat[begin] = code
                        begin += 1
        return np.array(flat, np.int32).reshape(len(rows), self.width)

    def to_json(self) -> str:
        """The encoder as JSON text, pure ASCII; `from_json` gives an equal encoder."""
        fields = []
        for one in self.fields:
            content = asdict(one)
            del content["_codes"]
            fields.append(content)
        return json.dumps({"width": self.width, "fields": fields}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The encoder that `to_json` wrote; raises ValueError where `text` is something else."""
        try:
            content = json.loads(text)
            fields = []
            for one in content["fields"]:
                lists = {name: tuple(one[name]) for name in ("vocabulary", "boundaries")}
                fields.append(EncodedField(**{**one, **lists}))
            return cls(tuple(fields), int(content["width"]))
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a feature encoder: {error}") from error


def _fit_field(
    wanted: FeatureField, rows: Sequence[RawFeatures], start: int, first_code: int
) -> EncodedField:
    values = [value for row in rows if (value := row.get(wanted.name)) is not None]
    if wanted.kind == "numeric":
        numbers = [number for value in values if (number := _number(wanted.name, value)) is not None]
        boundaries = _quantile_boundaries(numbers, wanted.buckets)
        code_count = len(boundaries) + 1 if numbers else 0
        return EncodedField(wanted.name, "numeric", 1, start, first_code, code_count, (), boundaries)
    counts: Counter[str] = Counter()
    most = 1
    for value in values:
        parts = _parts(wanted.name, wanted.kind, value)
        counts.update(parts)
        most = max(most, len(parts))
    min_count = wanted.min_count or (TEXT_MIN_COUNT if wanted.kind == "text" else 1)
    kept = [value for value, count in counts.items() if count >= min_count]
    vocabulary = tuple(sorted(kept, key=lambda value: (-counts[value], value)))
    default = {"categorical": 1, "multi": min(most, MOST_MULTI_SLOTS), "text": TEXT_SLOTS}[wanted.kind]
    slots = wanted.slots or default
    return EncodedField(wanted.name, wanted.kind, slots, start, first_code, len(vocabulary), vocabulary)


def _quantile_boundaries(numbers: Sequence[float], buckets: int) -> tuple[float, ...]:
    """At most ``buckets - 1`` of `numbers`, each the largest of its bucket; buckets are about as full."""
    distinct = np.unique(np.array(numbers, np.float64))
    if len(distinct) <= buckets:
        return tuple(distinct[:-1].tolist())
    cuts = np.quantile(numbers, np.arange(1, buckets) / buckets, method="inverted_cdf")
    # Nothing would lie above a cut at the largest number, so it moves to the one before.
    return tuple(np.unique(np.minimum(cuts, distinct[-2])).tolist())


def _number(name: str, value: object) -> float | None:
    """`value` as a float; None where it is not finite, which counts as missing."""
    if isinstance(value, bool) or not isinstance(value, (float, int, np.integer, np.floating)):
        raise _wrong_type(name, "numeric", value)
    number = float(value)
    return number if math.isfinite(number) else None


def _parts(name: str, kind: Kind, value: object) -> Sequence[str]:
    """The distinct strings of one value that can have a code, in their order."""
    if kind == "multi":
        if not isinstance(value, (list, tuple)):
            raise _wrong_type(name, kind, value)
        return _distinct(name, value)
    if not isinstance(value, str):
        raise _wrong_type(name, kind, value)
    if kind == "text":
        return list(dict.fromkeys(_TOKEN.findall(value.lower())))
    return (value,)


def _distinct(name: str, values: Iterable[object]) -> list[str]:
    distinct: dict[str, None] = {}
    for value in values:
        if not isinstance(value, str):
            raise FeatureError(
                f"feature {name!r}: found a list with a {type(value).__name__}, expected a list of strings"
            )
        distinct[value] = None
    return list(distinct)


def _wrong_type(name: str, kind: Kind, value: object) -> FeatureError:
    return FeatureError(f"feature {name!r}: found {type(value).__name__}, expected {_EXPECTED[kind]}")
