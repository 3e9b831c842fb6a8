"""Points in time from whatever a column holds: numbers of any unit, written dates, Arrow's own types."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tools.config.build import TimestampUnit
from tools.data.reader import decoded

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
LATEST = 7_258_118_400
"""The start of the year 2200; a later timestamp is a wrong unit."""
_ZONE = r"(Z|[+-]\d\d:?\d\d)$"


@dataclass(frozen=True)
class Times:
    """A column of points in time.

    Attributes:
        nanoseconds: int64 ``[n]`` since 1970 (UTC); 0 where it is not `readable` or not `plausible`.
        readable: bool ``[n]``, whether there is a point in time at all.
        plausible: bool ``[n]``, whether it lies within 1970 … 2199.
    """

    nanoseconds: NDArray[np.int64]
    readable: NDArray[np.bool_]
    plausible: NDArray[np.bool_]


def parse_times(array: pa.Array, unit: TimestampUnit) -> Times:
    """The points in time in `array`; `unit` says how numbers and texts are meant.

    A written date without a zone is UTC. Raises TypeError where the column's type has no time in it.
    """
    kind = array.type
    if pa.types.is_timestamp(kind):
        return _from_numbers(array.cast(pa.int64()), PER_SECOND[kind.unit])
    if pa.types.is_date(kind):
        return _from_numbers(array.cast(pa.date64()).cast(pa.int64()), PER_SECOND["ms"])
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if unit == "iso8601":
            raise TypeError("holds numbers; set timestamp_unit to s, ms, us or ns instead of iso8601")
        return _from_numbers(array, PER_SECOND[unit])
    if pa.types.is_binary(kind):
        array = decoded(array)[0]
    elif pa.types.is_large_string(kind):
        array = array.cast(pa.string())
    elif not pa.types.is_string(kind):
        raise TypeError(f"holds {kind}; a timestamp is a number, a text or a Parquet timestamp or date")
    if unit == "iso8601":
        return _from_numbers(_written(array), PER_SECOND["ns"])
    return _from_numbers(parse_numbers(array), PER_SECOND[unit])


def parse_numbers(array: pa.Array) -> pa.Array:
    """The numbers that are written in `array` of text, int64 or float64; null where there is none."""
    for kind in (pa.int64(), pa.float64()):
        try:
            return array.cast(kind)
        except pa.ArrowInvalid:
            continue
    numbers = pd.to_numeric(array.to_pandas(), errors="coerce").to_numpy(np.float64)
    return pa.array(numbers, from_pandas=True)


def _written(array: pa.Array) -> pa.Array:
    """Nanoseconds, int64, of dates written as ISO 8601; null where there is none."""
    try:
        zoned = pc.match_substring_regex(array, _ZONE)
        with_zone = pc.if_else(zoned, array, None).cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
        without = pc.if_else(zoned, None, array).cast(pa.timestamp("ns")).cast(pa.int64())
        return pc.coalesce(with_zone, without)
    except pa.ArrowInvalid:  # at least one is no date, or written in one of the standard's rarer forms
        dates = pd.to_datetime(array.to_pandas(), format="ISO8601", utc=True, errors="coerce")
        return pa.array(dates.dt.as_unit("ns")).cast(pa.int64())


def _from_numbers(array: pa.Array, per_second: int) -> Times:
    readable = np.asarray(pc.is_valid(array))
    values = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        readable &= np.isfinite(values)
        values = np.where(readable, values, 0)
    plausible = (values >= 0) & (values < LATEST * per_second)
    values = np.where(plausible, values, 0)
    scale = PER_SECOND["ns"] // per_second
    whole = values.astype(np.int64)
    nanoseconds = whole * scale
    if values.dtype.kind == "f":  # whole and fraction apart: a float64 of seconds has no room for both
        nanoseconds += ((values - whole) * scale).astype(np.int64)
    return Times(nanoseconds, readable, plausible & readable)


def implausible(text: str, unit: TimestampUnit) -> str:
    """Why the timestamp `text` is refused, and which unit would make sense of it."""
    allowed = "a timestamp must lie within the years 1970 to 2199"
    try:
        number = float(text)
    except ValueError:
        return f"found {text!r}; {allowed}"
    if unit == "iso8601" or number < 0:
        return f"found {text}; {allowed}"
    better = next((other for other, per in PER_SECOND.items() if 0 < number / per < LATEST), None)
    if better is None:
        return f"found {text}; {allowed}"
    year = datetime.fromtimestamp(number / PER_SECOND[better], UTC).year
    return (
        f'found {text}, which lies beyond the year 2199 in the unit "{unit}"; '
        f'with timestamp_unit = "{better}" it would be in {year}'
    )
