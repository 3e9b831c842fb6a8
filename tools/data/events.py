"""Reads the events: who, what, when; everything else in the file is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tools.config.build import EventsConfig
from tools.data.ids import IdColumn
from tools.data.problems import Collector, shown
from tools.data.reader import Reader, decoded
from tools.data.table import Progress
from tools.data.times import Times, implausible, parse_numbers, parse_times

_YEAR_1971 = 31_536_000_000_000_000  # nanoseconds


@dataclass(frozen=True)
class Events:
    """The events that are kept, in the file's order.

    Attributes:
        users: their users, as codes.
        items: their items, as codes.
        nanoseconds: int64 ``[n]`` since 1970 (UTC).
        rows_read: how many rows the file has, with those that were filtered out.
    """

    users: IdColumn
    items: IdColumn
    nanoseconds: NDArray[np.int64]
    rows_read: int


def read_events(config: EventsConfig, problems: Collector, progress: Progress) -> Events:
    """Read the file that `config` maps; what is wrong with it goes to `problems`."""
    columns = [config.user, config.item, config.timestamp]
    columns += [column for column in (config.event, config.rating) if column]
    reader = Reader(config, columns, problems)
    users = IdColumn(reader.file, config.user, reader.row_number, problems)
    items = IdColumn(reader.file, config.item, reader.row_number, problems)
    chunks: list[NDArray[np.int64]] = []
    kinds: set[str] = set()
    read = kept = 0
    for batch in reader.batches():
        length = len(batch[config.user])
        rows = _kept_rows(batch, config, reader, read, problems, kinds)
        if rows is not None:
            batch = {name: array.take(pa.array(rows)) for name, array in batch.items()}
            rows = rows + read
        filtered = config.event is not None or config.rating is not None
        positions = rows if rows is not None else np.arange(read, read + length)
        users.add(batch[config.user], positions if filtered else None)
        items.add(batch[config.item], positions if filtered else None)
        chunks.append(_times(batch[config.timestamp], config, reader, positions, problems))
        read += length
        kept += len(positions)
        progress("events", read)
    if read and not kept:
        _complain_that_nothing_is_left(config, reader, kinds, problems)
    nanoseconds = np.concatenate(chunks) if chunks else np.empty(0, np.int64)
    chunks.clear()
    _check_unit(nanoseconds, config, reader, problems)
    return Events(users.finish(), items.finish(), nanoseconds, read)


def _kept_rows(
    batch: dict[str, pa.Array],
    config: EventsConfig,
    reader: Reader,
    start: int,
    problems: Collector,
    kinds: set[str],
) -> NDArray[np.int64] | None:
    """The rows that pass the filters on event type and rating; None for all."""
    mask = np.ones(len(batch[config.user]), dtype=bool)
    if config.event is not None:
        event = _as_text(batch[config.event], config.event, reader, start, problems)
        if len(kinds) < 10:
            kinds.update(str(kind) for kind in pc.unique(event).to_pylist())
        mask &= np.asarray(pc.is_in(event, pa.array(config.keep, pa.string())))
    if config.rating is not None:
        rating, present = _ratings(batch[config.rating], config.rating, reader, start, problems)
        broken = np.flatnonzero(mask & present & ~np.isfinite(rating))
        problems.add_rows(
            "rating",
            reader.file,
            config.rating,
            broken.tolist(),
            lambda place: reader.row_number(start + place),
            lambda place: f"{shown(_value(batch[config.rating or ''], place))} is not a finite number",
        )
        mask &= np.nan_to_num(rating, nan=-np.inf, neginf=-np.inf) >= (config.min_rating or 0.0)
    return None if mask.all() else np.flatnonzero(mask)


def _ratings(
    array: pa.Array, column: str, reader: Reader, start: int, problems: Collector
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The ratings, float64 with NaN where there is none, and where something is written at all."""
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        text = pc.utf8_trim_whitespace(_as_text(array, column, reader, start, problems))
        array = pc.if_else(pc.equal(text, ""), None, text)
        numbers = parse_numbers(array)
    else:
        numbers = array
    present = np.asarray(pc.is_valid(array))
    values = pc.fill_null(numbers.cast(pa.float64(), safe=False), np.nan).to_numpy()
    return values, present


def _as_text(array: pa.Array, column: str, reader: Reader, start: int, problems: Collector) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if not pa.types.is_binary(array.type):
        try:
            return array.cast(pa.string())
        except pa.ArrowNotImplementedError:
            problems.add("type", reader.file, column, f"holds {array.type}; it must be text or a number")
            return pa.nulls(len(array), pa.string())
    text, broken = decoded(array)
    problems.add_rows(
        "utf8",
        reader.file,
        column,
        broken,
        lambda place: reader.row_number(start + place),
        lambda _: "is not UTF-8; save the file as UTF-8",
    )
    return text


def _times(
    array: pa.Array,
    config: EventsConfig,
    reader: Reader,
    positions: NDArray[np.int64],
    problems: Collector,
) -> NDArray[np.int64]:
    """Nanoseconds, int64 ``[n]``, of one batch of timestamps."""
    unit = config.timestamp_unit
    try:
        times: Times = parse_times(array, unit)
    except TypeError as error:
        if not problems.about(reader.file):
            problems.add("type", reader.file, config.timestamp, str(error))
        return np.zeros(len(array), np.int64)

    def complain(kind: str, bad: NDArray[np.bool_], message: Callable[[int], str]) -> None:
        problems.add_rows(
            kind,
            reader.file,
            config.timestamp,
            np.flatnonzero(bad).tolist(),
            lambda place: reader.row_number(int(positions[place])),
            message,
        )

    def unreadable(place: int) -> str:
        value = _value(array, place)
        if value in (None, ""):
            return "is empty; every event needs a timestamp"
        if unit == "iso8601":
            return f'{shown(value)} is not a date and time such as "2024-05-17T09:30:00Z"'
        hint = '; for written dates set timestamp_unit = "iso8601"' if _looks_written(value) else ""
        return f'{shown(value)} is not a number (the unit is "{unit}"){hint}'

    complain("unreadable", ~times.readable, unreadable)
    complain(
        "implausible",
        times.readable & ~times.plausible,
        lambda place: implausible(str(_value(array, place)), unit),
    )
    return times.nanoseconds


def _value(array: pa.Array, place: int) -> object:
    value = array[place].as_py()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _looks_written(value: object) -> bool:
    return isinstance(value, str) and value[:4].isdigit() and value[4:5] == "-"


def _check_unit(
    nanoseconds: NDArray[np.int64], config: EventsConfig, reader: Reader, problems: Collector
) -> None:
    """Seconds that are read as anything finer all lie in January 1970."""
    finer = config.timestamp_unit in ("ms", "us", "ns")
    if finer and len(nanoseconds) and nanoseconds.max() < _YEAR_1971 and not problems.about(reader.file):
        problems.add(
            "unit",
            reader.file,
            config.timestamp,
            f'all timestamps lie in the year 1970 in the unit "{config.timestamp_unit}"; '
            "timestamp_unit is probably another",
        )


def _complain_that_nothing_is_left(
    config: EventsConfig, reader: Reader, kinds: set[str], problems: Collector
) -> None:
    conditions = []
    if config.event is not None:
        found = ", ".join(map(shown, sorted(kinds)))
        conditions.append(f"keep = {list(config.keep)} (column {config.event!r} has {found})")
    if config.rating is not None:
        conditions.append(f"min_rating = {config.min_rating:g}")
    problems.add("filters", reader.file, None, f"no event passes {' and '.join(conditions)}")
