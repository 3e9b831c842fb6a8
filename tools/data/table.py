"""The item table and the user table: ids, titles and raw features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tools.config.build import FeatureColumn, ItemsConfig, TableConfig
from tools.data.ids import IdColumn
from tools.data.problems import Collector, shown
from tools.data.reader import Reader, decoded
from tools.data.times import parse_numbers

RawFeatures = dict[str, str | float | list[str]]
"""A user's or item's features by name; a missing one is no key."""
Progress = Callable[[str, int], None]
"""Called with what is being read and how many rows of it have been."""


@dataclass(frozen=True)
class Table:
    """A table as read: `titles` and `features` by row, `ids` still as found."""

    ids: IdColumn
    titles: list[str | None] | None
    features: list[RawFeatures]


def read_table(config: TableConfig, what: str, problems: Collector, progress: Progress) -> Table:
    """Read the table that `config` maps; what is wrong with it goes to `problems`."""
    title = config.title if isinstance(config, ItemsConfig) else None
    columns = [config.id, *([title] if title else []), *(feature.column for feature in config.features)]
    reader = Reader(config, columns, problems)
    ids = IdColumn(reader.file, config.id, reader.row_number, problems)
    titles: list[str | None] | None = [] if title else None
    features: list[RawFeatures] = []
    for batch in reader.batches():
        ids.add(batch[config.id])
        column = _Values(reader, len(features), problems)
        if title and titles is not None:
            titles += column.texts(batch[title], title)
        rows: list[RawFeatures] = [{} for _ in range(len(batch[config.id]))]
        for feature in config.features:
            name = feature.field.name
            for row, value in zip(rows, column.values(batch[feature.column], feature), strict=True):
                if value is not None:
                    row[name] = value
        features += rows
        progress(what, len(features))
    return Table(ids.finish(), titles, features)


class _Values:
    """Turns one batch's columns into Python values; None is missing."""

    def __init__(self, reader: Reader, start: int, problems: Collector) -> None:
        self._reader = reader
        self._start = start
        self._problems = problems

    def values(self, array: pa.Array, feature: FeatureColumn) -> list[Any]:
        if feature.kind == "numeric":
            return self._numbers(array, feature.column, feature.missing)
        if feature.kind != "multi":
            return self.texts(array, feature.column, feature.missing)
        kind = array.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            lists = ([str(value) for value in row or () if value is not None] for row in array.to_pylist())
        else:
            separator = feature.separator or "|"
            texts = self.texts(array, feature.column, feature.missing)
            parts = ((text or "").split(separator) for text in texts)
            lists = ([part.strip() for part in row if part.strip()] for row in parts)
        return [values or None for values in lists]

    def texts(self, array: pa.Array, column: str, missing: tuple[str, ...] = ()) -> list[str | None]:
        """The column as text without blanks around it; None where it is empty or one of `missing`."""
        values: list[str | None] = self._text(array, column, missing).to_pylist()
        return values

    def _text(self, array: pa.Array, column: str, missing: tuple[str, ...]) -> pa.Array:
        """The same as Arrow text; all null, with a problem noted, where the type cannot be text."""
        text = pc.utf8_trim_whitespace(self._as_given(array, column))
        return pc.if_else(pc.is_in(text, pa.array(["", *missing])), None, text)

    def _as_given(self, array: pa.Array, column: str) -> pa.Array:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_binary(array.type):
            array, broken = decoded(array)
            self._complain("utf8", column, broken, lambda _: "is not UTF-8; save the file as UTF-8")
            return array
        try:
            return array.cast(pa.string())
        except pa.ArrowInvalid:
            broken = np.flatnonzero(np.asarray(pc.is_valid(array))).tolist()
        except pa.ArrowNotImplementedError:
            self._problems.add("type", self._reader.file, column, f"holds {array.type}; write it as text")
            return pa.nulls(len(array), pa.string())
        self._complain("text", column, broken, lambda _: "cannot be written as text")
        return pa.nulls(len(array), pa.string())

    def _numbers(self, array: pa.Array, column: str, missing: tuple[str, ...]) -> list[float | None]:
        kind = array.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            given, numbers = array, array.cast(pa.float64(), safe=False)
        else:
            given = self._text(array, column, missing)
            numbers = parse_numbers(given).cast(pa.float64(), safe=False)
        present = np.asarray(pc.is_valid(given))
        values = pc.fill_null(numbers, np.nan).to_numpy()
        broken = np.flatnonzero(present & ~np.isfinite(values))
        self._complain(
            "number",
            column,
            broken.tolist(),
            lambda place: (
                f"{shown(given[place].as_py())} is not a finite number; leave it empty where there is none, "
                "or list it under `missing` of this feature"
            ),
        )
        return [value if value == value else None for value in values.tolist()]

    def _complain(self, kind: str, column: str, places: list[int], message: Callable[[int], str]) -> None:
        self._problems.add_rows(
            kind,
            self._reader.file,
            column,
            places,
            lambda place: self._reader.row_number(self._start + place),
            message,
        )
