"""Streams the wanted columns of a CSV, TSV or Parquet file, and knows which row and line everything is in."""

from __future__ import annotations

import csv
import io
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from tools.config.build import Source
from tools.data.problems import Collector, shown

BLOCK_BYTES = 16 << 20
BATCH_ROWS = 1 << 19


class Reader:
    """Reads `columns` of one file in batches; whatever is wrong with the file goes to `problems`.

    Text files: UTF-8, with a header. CSV may quote with `"`; TSV has no quoting, a tab always separates.
    Their values arrive as undecoded bytes (Arrow binary), so that a row that is not UTF-8 can be named.
    Parquet columns arrive with the type that the file gives them.
    """

    def __init__(self, source: Source, columns: Sequence[str], problems: Collector) -> None:
        self.file = str(source.path)
        self.columns = list(dict.fromkeys(columns))
        self._path = source.path
        self._format = source.resolved_format
        self._problems = problems
        self._ragged: list[int] = []  # data rows, from 0, that were left out of the batches
        self._batches = 0
        problems.expect(self.file, self.columns, None if self._format == "parquet" else self._lines)

    def batches(self) -> Iterator[dict[str, pa.Array]]:
        """Yields the columns by name, batch after batch; nothing at all if the file cannot be used."""
        if not self._path.exists():
            self._complain("file", "there is no such file")
            return
        if not self._path.is_file():
            self._complain("file", "is not a file")
            return
        rows = 0
        try:
            for batch in self._parquet() if self._format == "parquet" else self._text():
                rows += batch.num_rows
                yield {name: batch.column(name) for name in self.columns}
        except (pa.ArrowInvalid, OSError, csv.Error) as error:
            self._complain("file", f"cannot be read as {self._format}: {_plain(error)}")
        if rows == 0 and not self._problems.about(self.file):
            self._complain("file", "is empty: it has a header but no rows")

    def row_number(self, position: int) -> int:
        """The number, from 1, of the data row that is at `position`, from 0, of all rows yielded so far."""
        # Row r of the file was left out: every later row was yielded one position earlier.
        shifted = [row - before for before, row in enumerate(self._ragged)]
        return position + bisect_right(shifted, position) + 1

    def _complain(self, kind: str, message: str, column: str | None = None, row: int | None = None) -> None:
        self._problems.add(kind, self.file, column, message, row=row)

    def _has_columns(self, existing: Sequence[str]) -> bool:
        """Whether all columns are there, once each; otherwise every one that is not is a problem."""
        for column in self.columns:
            if existing.count(column) > 1:
                self._complain("column", f"the header names it {existing.count(column)} times", column)
            elif column not in existing:
                close = get_close_matches(column, existing, n=1)
                meant = f"did you mean {close[0]!r}? " if close else ""
                names = ", ".join(map(repr, existing[:50])) + (", …" if len(existing) > 50 else "")
                self._complain("column", f"there is no such column; {meant}the file has {names}", column)
        return not self._problems.about(self.file)

    def _parquet(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self._path) as file:
            if self._has_columns(file.schema_arrow.names):
                yield from file.iter_batches(BATCH_ROWS, columns=self.columns)

    def _text(self) -> Iterator[pa.RecordBatch]:
        with suppress(StopIteration):
            header = next(self._python_reader("surrogateescape"))
            if _has_surrogates(header):
                self._complain("file", "the header is not UTF-8; save the file as UTF-8")
                return
            if not self._has_columns(header):
                return
            yield from self._open_text()
            return
        self._complain("file", "is empty: it has not even a header")

    def _open_text(self) -> Iterator[pa.RecordBatch]:
        return iter(
            pa_csv.open_csv(
                self._path,
                # One thread: only then does the parser number the rows that it refuses. It costs no time.
                read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
                parse_options=pa_csv.ParseOptions(
                    delimiter="," if self._format == "csv" else "\t",
                    quote_char='"' if self._format == "csv" else False,
                    newlines_in_values=self._format == "csv",
                    invalid_row_handler=self._skip_ragged,
                ),
                convert_options=pa_csv.ConvertOptions(
                    include_columns=self.columns,
                    column_types=dict.fromkeys(self.columns, pa.binary()),
                    check_utf8=False,
                ),
            )
        )

    def _skip_ragged(self, row: Any) -> str:
        number = row.number - 1  # the parser counts the header as well
        self._ragged.append(number - 1)
        self._complain(
            "ragged",
            f"has {row.actual_columns} values where the header has {row.expected_columns}: {shown(row.text)}",
            row=number,
        )
        return "skip"

    def _python_reader(self, errors: str) -> Any:
        stream = io.TextIOWrapper(pa.input_stream(str(self._path)), "utf-8-sig", errors=errors, newline="")
        if self._format == "csv":
            return csv.reader(stream)
        return csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)

    def _lines(self, rows: Iterable[int]) -> dict[int, int]:
        """On which line, from 1, each of `rows` begins. Reads the file once more, up to the last of them."""
        wanted = set(rows)
        lines: dict[int, int] = {}
        reader = self._python_reader("replace")
        row, line = -1, 1  # the header becomes row 0
        with suppress(csv.Error):  # a value longer than Python's limit: those lines are not told
            for values in reader:
                row += 1 if values else 0
                if values and row in wanted:
                    lines[row] = line
                    if len(lines) == len(wanted):
                        break
                line = reader.line_num + 1
        return lines


def _plain(error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "straddling" in text or "out of sync" in text:
        return f'a row is longer than {BLOCK_BYTES >> 20} MB; is a quote (") opened and never closed?'
    return text


def decoded(array: pa.Array) -> tuple[pa.Array, list[int]]:
    """Bytes as text; and the positions that are not UTF-8, which become null."""
    try:
        return array.cast(pa.string()), []
    except pa.ArrowInvalid:
        values: list[bytes | None] = array.to_pylist()
    bad = [place for place, value in enumerate(values) if value is not None and not _is_utf8(value)]
    good = np.ones(len(values), dtype=bool)
    good[bad] = False
    return pa.array(values, pa.binary(), mask=~good).cast(pa.string()), bad


def _has_surrogates(header: list[str]) -> bool:
    try:
        "".join(header).encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
