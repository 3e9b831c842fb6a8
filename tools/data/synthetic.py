"""Made-up events for tests of scale, and of nothing else: they have no taste in them to learn.

python -m tools.data.synthetic events.parquet --events 20000000 --users 1000000 --items 100000
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

CHUNK = 1 << 20
YEAR_2020 = 1_577_836_800
SECONDS = 4 * 365 * 24 * 3600
SCHEMA = pa.schema([("user", pa.int64()), ("item", pa.int64()), ("timestamp", pa.int64())])


def synthetic_events(events: int, users: int, items: int, seed: int) -> Iterator[pa.RecordBatch]:
    """Yields `events` events in batches: columns user, item, timestamp (int64; unix seconds, unsorted).

    Users' activity is log-normal, items' popularity follows Zipf's law with exponent 1. The same
    arguments give the same events.
    """
    rng = np.random.default_rng(seed)
    activity = np.cumsum(rng.lognormal(sigma=1.2, size=users))
    popularity = np.cumsum(1.0 / np.arange(1, items + 1))
    item_ids = rng.permutation(items)  # so that an id says nothing about popularity
    for start in range(0, events, CHUNK):
        count = min(CHUNK, events - start)
        user = np.searchsorted(activity, rng.random(count) * activity[-1])
        item = item_ids[np.searchsorted(popularity, rng.random(count) * popularity[-1])]
        timestamp = YEAR_2020 + rng.integers(0, SECONDS, count)
        yield pa.record_batch([pa.array(column) for column in (user, item, timestamp)], schema=SCHEMA)


def write_events(path: Path, events: int, users: int, items: int, seed: int = 1) -> None:
    """Write synthetic events to `path`, as CSV if its suffix is .csv and as Parquet otherwise."""
    csv = path.suffix == ".csv"
    with (
        pa_csv.CSVWriter(path, SCHEMA) if csv else pq.ParquetWriter(path, SCHEMA, compression="zstd")
    ) as writer:
        for batch in synthetic_events(events, users, items, seed):
            writer.write_batch(batch)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write made-up events for tests of scale.")
    parser.add_argument("path", type=Path, help="events.parquet or events.csv")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    write_events(options.path, options.events, options.users, options.items, options.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
