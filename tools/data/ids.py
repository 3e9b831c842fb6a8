"""Columns of ids: read as codes, checked once per distinct value, and turned into wire ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tritonrec_client.contract import MAX_ID
from tritonrec_client.ids import wire_ids

from tools.data.problems import Collector, shown
from tools.data.reader import decoded

IdKind = Literal["integer", "string"]
_NUMBER = r"^(0|[1-9][0-9]{0,18})$"
_NEGATIVE = r"^-[0-9]+$"
_NAN = ("nan", "NaN", "NAN")


class IdColumn:
    """The ids in one column of one file.

    Add batches, then `finish`. After that `values` holds each distinct id as text (Arrow string), in the
    order in which they first occur, and `codes` (int32 ``[n]``) each row's place in it, -1 for a bad one.
    """

    def __init__(self, file: str, column: str, row_number: Callable[[int], int], problems: Collector) -> None:
        self.file = file
        self.column = column
        self.values: pa.Array = pa.array([], pa.string())
        self.codes: NDArray[np.int32] = np.empty(0, np.int32)
        self._row_number = row_number
        self._problems = problems
        self._chunks: list[pa.DictionaryArray] = []
        self._rows: list[NDArray[np.int64]] = []
        self._floating = False
        self._unusable = False

    def add(self, array: pa.Array, rows: NDArray[np.int64] | None = None) -> None:
        """Take the next batch; `rows` are its rows' positions in the file, where not all rows are taken."""
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        kind = array.type
        if pa.types.is_floating(kind):
            array = self._whole_numbers(array)
        elif pa.types.is_integer(kind):
            array = array.cast(pa.uint64() if kind == pa.uint64() else pa.int64())
        elif pa.types.is_large_string(kind):
            array = array.cast(pa.string())
        elif not (pa.types.is_binary(kind) or pa.types.is_string(kind)):
            if not self._unusable:
                self._problems.add("type", self.file, self.column, f"holds {kind}; ids are integers or text")
            self._unusable = True
            return
        self._chunks.append(array.dictionary_encode())
        if rows is not None:
            self._rows.append(rows)

    def finish(self) -> IdColumn:
        """Join the batches and note every id that is missing, NaN or not UTF-8."""
        if self._chunks:
            joined = pa.chunked_array(self._chunks).unify_dictionaries()
            self._chunks.clear()
            parts = [pc.fill_null(chunk.indices, -1).to_numpy() for chunk in joined.chunks]
            self.codes = np.concatenate(parts).astype(np.int32, copy=False)
            values = joined.chunk(0).dictionary
            broken: list[int] = []
            if pa.types.is_binary(values.type):
                values, broken = decoded(values)
            self.values = values.cast(pa.string())
            self._complain("utf8", broken, lambda _: "is not UTF-8; save the file as UTF-8")
        missing = self._codes_of(pc.equal(self.values, ""))
        self._complain("missing", [-1, *missing], lambda _: "is empty; every row needs an id")
        not_numbers = self._codes_of(pc.is_in(self.values, pa.array(_NAN)))
        self._complain("nan", not_numbers, lambda value: f"is {value}, which is no id")
        if self._floating:
            broken = self._codes_of(pc.match_substring_regex(self.values, r"[^0-9-]"))
            not_whole = sorted(set(broken) - set(not_numbers))
            self._complain("float", not_whole, lambda value: f"is {value}; ids are integers or text")
        bad = np.array([*missing, *not_numbers], dtype=np.int32)
        if len(bad):
            self.codes = np.where(np.isin(self.codes, bad), np.int32(-1), self.codes)
        return self

    def refuse(self, kind: str, places: Sequence[int], message: Callable[[str], str]) -> None:
        """Note a problem for every row whose id is at one of `places` in `values`."""
        self._complain(kind, places, message)

    def refuse_repeats(self) -> None:
        """Note a problem for every row whose id an earlier row has."""
        if len(self.values) == len(self.codes):
            return
        order = np.argsort(self.codes, kind="stable")
        again = np.flatnonzero(np.diff(self.codes[order], prepend=-1) == 0)
        first = dict(zip(self.codes[::-1].tolist(), range(len(self.codes) - 1, -1, -1), strict=True))
        positions = np.sort(order[again[self.codes[order[again]] >= 0]])
        self._problems.add_rows(
            "repeat",
            self.file,
            self.column,
            positions.tolist(),
            self._row_of,
            lambda position: (
                f"the id {shown(self._value(position))} was already in row "
                f"{self._row_of(first[int(self.codes[position])])}; every id may have one row"
            ),
        )

    def _whole_numbers(self, array: pa.Array) -> pa.Array:
        """Floating point ids, which is what pandas makes of integers where one is missing, as text."""
        self._floating = True
        numbers = pc.fill_null(array, 0).to_numpy()
        whole = (np.abs(numbers) < 2**53) & (np.floor(numbers) == numbers)
        integers = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.string())
        return pc.if_else(
            pc.is_null(array), None, pc.if_else(pa.array(whole), integers, array.cast(pa.string()))
        )

    def _codes_of(self, condition: pa.Array) -> list[int]:
        return [int(code) for code in np.flatnonzero(np.asarray(pc.fill_null(condition, False)))]

    def _row_of(self, position: int) -> int:
        if not self._rows:
            return self._row_number(position)
        if len(self._rows) > 1:
            self._rows = [np.concatenate(self._rows)]
        return self._row_number(int(self._rows[0][position]))

    def _value(self, position: int) -> str:
        return str(self.values[int(self.codes[position])].as_py())

    def _complain(self, kind: str, codes: Sequence[int], message: Callable[[str], str]) -> None:
        if len(codes) == 0:
            return
        positions = np.flatnonzero(np.isin(self.codes, np.asarray(codes, dtype=np.int32)))
        self._problems.add_rows(
            kind,
            self.file,
            self.column,
            positions.tolist(),
            self._row_of,
            lambda position: message(self._value(position) if self.codes[position] >= 0 else ""),
        )


class Catalogue:
    """All users, or all items: one row each, with the wire ids that they travel under.

    The table's ids come first, in its order, then those that only occur in the events, in theirs.
    They are integer ids where every one of both is a canonical integer (digits, no sign, no leading zero)
    below 2**63, and string ids otherwise.

    Attributes:
        keys: the ids as text, Arrow string ``[n]``.
        kind: whether they are integer or string ids.
        note: a warning where few ids of many make all of them string ids, or None.
        wire: int64 ``[n]``.
        event_rows: int32 ``[values of the events' column]``, the row of each of them.
    """

    def __init__(
        self, events: IdColumn, table: IdColumn | None, problems: Collector, *, closed: bool
    ) -> None:
        self.keys: pa.Array = events.values
        self.event_rows = np.arange(len(events.values), dtype=np.int32)
        if table is not None:
            self._join(events, table, closed=closed)
        columns = [events] if table is None else [table, events]
        others = _not_integers(columns)
        self.kind: IdKind = "string" if others else "integer"
        self.note = _note(columns, others)
        self.wire = self._wire_ids(columns[0], problems)

    def _join(self, events: IdColumn, table: IdColumn, *, closed: bool) -> None:
        table.refuse_repeats()
        rows = pc.index_in(events.values, value_set=table.values)
        new = np.flatnonzero(np.asarray(pc.is_null(rows)))
        # A table that could not be read knows nobody; that it could not is problem enough.
        if closed and len(table.values):
            events.refuse(
                "unknown",
                new.tolist(),
                lambda value: f"the item {shown(value)} is not in column {table.column!r} of {table.file}",
            )
        self.event_rows = pc.fill_null(rows, 0).to_numpy().astype(np.int32)
        self.event_rows[new] = len(table.values) + np.arange(len(new))
        self.keys = pa.concat_arrays([table.values, events.values.take(pa.array(new))])

    def _wire_ids(self, column: IdColumn, problems: Collector) -> NDArray[np.int64]:
        if problems:
            return np.full(len(self.keys), -1, np.int64)
        if self.kind == "integer":
            return np.asarray(self.keys.cast(pa.int64()).to_numpy())
        wire = wire_ids(self.keys.to_pylist())
        order = np.argsort(wire, kind="stable")
        for place in np.flatnonzero(np.diff(wire[order]) == 0):
            one, other = (shown(self.keys[int(row)].as_py()) for row in order[place : place + 2])
            problems.add(
                "collision",
                column.file,
                column.column,
                f"the ids {one} and {other} have the same hash; rename one of them",
            )
        return wire


def _note(columns: Sequence[IdColumn], others: Sequence[str]) -> str | None:
    total = sum(len(column.values) for column in columns)
    if not others or 2 * len(others) > total:
        return None
    places = " and ".join(f"{column.file}, column {column.column!r}" for column in columns)
    return (
        f"{places}: ids are treated as strings, since {len(others):,} of {total:,} are no integers, such as "
        f"{', '.join(map(shown, others[:3]))}; whoever calls must then send every id as a string"
    )


def _not_integers(columns: Sequence[IdColumn]) -> list[str]:
    """The ids that are no integer ids; if there are none, negative integers are noted as problems."""
    negatives = []
    others: list[str] = []
    for column in columns:
        values = column.values
        length = pc.utf8_length(values)
        number = pc.and_(
            pc.match_substring_regex(values, _NUMBER),
            pc.or_(pc.less(length, 19), pc.less_equal(values, str(MAX_ID))),
        )
        other = np.flatnonzero(~np.asarray(pc.fill_null(number, True)))
        rest = values.take(pa.array(other))
        negative = np.asarray(pc.match_substring_regex(rest, _NEGATIVE))
        nothing = np.asarray(pc.is_in(rest, pa.array(["", *_NAN])))
        others += rest.take(pa.array(np.flatnonzero(~(negative | nothing)))).to_pylist()
        negatives.append((column, other[negative].tolist()))
    if not others:
        for column, places in negatives:
            column.refuse("negative", places, lambda value: f"the id {value} is negative; ids start at 0")
    return others
