"""Vectors of items that the user brings: read, checked and put in the order of the items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tools.config.vectors import VectorsConfig
from tools.data.ids import IdColumn
from tools.data.problems import Collector, shown
from tools.data.table import Progress

ROWS_AT_ONCE = 1 << 14
Part = tuple[pa.Array, NDArray[Any], NDArray[np.bool_]]
"""Some rows: their ids, their vectors ``[n, width]``, and which of them have one."""


@dataclass(frozen=True)
class Brought:
    """Vectors of one kind.

    Attributes:
        name: what the configuration calls them.
        vectors: float32 ``[I + 1, width]``, rows of length 1; a row of zeros is an item without one, and row
            0 is padding.
        note: what is allowed but probably not meant.
    """

    name: str
    vectors: NDArray[np.float32]
    note: str | None = None


def has_vector(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which items have one of `vectors` ``[I + 1, width]``: bool ``[I + 1]``."""
    found: NDArray[np.bool_] = vectors.any(axis=1)
    return found


def read_vectors(config: VectorsConfig, keys: pa.Array, problems: Collector, progress: Progress) -> Brought:
    """The vectors that `config` names, for the items whose ids are `keys`, Arrow string ``[I]``.

    Vectors of one file are equally wide and finite; an item has at most one, and may have none. What is
    wrong goes to `problems`. Ids of no item are left out, with a note.
    """
    file = str(config.path)
    problems.expect(file, [config.id, config.column] if config.id and config.column else [])
    id_file, id_column = (file, config.id) if config.id else (str(config.ids), "id")
    if not config.is_parquet:
        problems.expect(id_file, [id_column])
    ids = IdColumn(id_file, id_column, lambda position: position + 1, problems)
    rows: list[NDArray[np.float32]] = []
    present: list[NDArray[np.bool_]] = []
    begin = 0
    nothing = Brought(config.name, np.zeros((len(keys) + 1, 1), np.float32))
    try:
        parts = _parquet(config, problems) if config.is_parquet else _numpy(config, problems)
        for id_part, given, known in parts:
            with np.errstate(over="ignore"):  # what does not fit into float32 is not finite there
                vectors = given.astype(np.float32)
            ids.add(id_part)
            _check_numbers(config, vectors, known, begin, problems)
            rows.append(vectors)
            present.append(known)
            begin += len(known)
            progress(f"{config.name} vectors", begin)
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        problems.add("file", file, None, f"cannot be read: {reason}")
    if problems.about(file) or problems.about(id_file):
        return nothing
    width = max((part.shape[1] for part in rows), default=0)
    if not width:
        problems.add("file", file, None, "holds no vector at all")
        return nothing
    ids.finish().refuse_repeats()
    if problems:
        return nothing
    # A part in which nobody has a vector does not know how wide they are.
    rows = [part if part.shape[1] else np.zeros((len(part), width), np.float32) for part in rows]
    return _in_order(config, keys, ids, np.concatenate(rows), np.concatenate(present), problems)


def _in_order(
    config: VectorsConfig,
    keys: pa.Array,
    ids: IdColumn,
    vectors: NDArray[np.float32],
    present: NDArray[np.bool_],
    problems: Collector,
) -> Brought:
    places = pc.fill_null(pc.index_in(ids.values, value_set=keys), -1).to_numpy()[ids.codes]
    # Divided before they are squared: the squares of large numbers are infinite.
    largest = np.abs(vectors).max(axis=1, initial=0, keepdims=True)
    vectors /= np.where(largest > 0, largest, 1)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    used = present & (places >= 0)
    ordered = np.zeros((len(keys) + 1, vectors.shape[1]), dtype=np.float32)
    ordered[places[used] + 1] = vectors[used]
    unknown = np.flatnonzero(places < 0)
    if not ordered.any():
        examples = f"{shown(str(ids.values[0]))} here, {shown(str(keys[0]))} in the item table"
        problems.add(
            "nobody",
            str(config.path),
            None,
            f"gives none of the {len(keys):,} items a vector: {len(unknown):,} of its {len(places):,} ids are"
            f" of no item ({examples}); allowed: at least one item with a vector that is not zero",
        )
    return Brought(
        config.name, ordered, _note(config, ids, unknown, int((used & (largest[:, 0] == 0)).sum()))
    )


def _note(config: VectorsConfig, ids: IdColumn, unknown: NDArray[np.int64], zeros: int) -> str | None:
    said = []
    if len(unknown):
        examples = ", ".join(shown(str(ids.values[int(code)])) for code in ids.codes[unknown[:3]])
        said.append(f"{len(unknown):,} ids are of no item, such as {examples}; their vectors are left out")
    if zeros:
        said.append(f"{zeros:,} vectors are zero and count as missing")
    return f"{config.path}: {'; '.join(said)}" if said else None


def _check_numbers(
    config: VectorsConfig,
    vectors: NDArray[np.float32],
    known: NDArray[np.bool_],
    begin: int,
    problems: Collector,
) -> None:
    problems.add_rows(
        "finite",
        str(config.path),
        config.column,
        np.flatnonzero(known & ~np.isfinite(vectors).all(axis=1)).tolist(),
        lambda place: begin + place + 1,
        lambda place: "holds a number that is not finite; allowed: finite numbers, or null for no vector",
    )


def _numpy(config: VectorsConfig, problems: Collector) -> Iterator[Part]:
    assert config.ids is not None
    file = str(config.path)
    try:
        array = np.load(config.path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"is no array of NumPy, or one of objects ({error})") from error
    if array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
        problems.add(
            "shape",
            file,
            None,
            f"is an array {list(array.shape)} of {array.dtype}; allowed: numbers, [vectors, width]",
        )
        return
    try:
        ids = _ids(config.ids)
    except (OSError, ValueError) as error:
        problems.add("file", str(config.ids), None, f"cannot be read: {error}")
        return
    if len(ids) != len(array):
        problems.add(
            "length", str(config.ids), None, f"has {len(ids):,} ids; {file} has {len(array):,} vectors"
        )
        return
    for start in range(0, len(array), ROWS_AT_ONCE):
        part = np.asarray(array[start : start + ROWS_AT_ONCE])
        yield ids[start : start + ROWS_AT_ONCE], part, np.ones(len(part), dtype=bool)


def _ids(path: Path) -> pa.Array:
    """The ids in a text file, one per line, or in an array of NumPy."""
    if path.suffix.lower() != ".npy":
        return pa.array([line.strip() for line in path.read_text("utf-8-sig").splitlines()], pa.string())
    found = np.load(path, allow_pickle=False)
    if found.ndim != 1 or found.dtype.kind not in "iuU":
        raise ValueError(f"is an array {list(found.shape)} of {found.dtype}; allowed: integers or text, [n]")
    return pa.array(found.tolist(), pa.string() if found.dtype.kind == "U" else None)


def _parquet(config: VectorsConfig, problems: Collector) -> Iterator[Part]:
    assert config.id is not None
    assert config.column is not None
    file = str(config.path)
    with pq.ParquetFile(config.path) as parquet:
        names = parquet.schema_arrow.names
        for column in (config.id, config.column):
            if column not in names:
                existing = ", ".join(map(repr, names[:50]))
                problems.add("column", file, column, f"there is no such column; the file has {existing}")
        if problems.about(file):
            return
        kind = parquet.schema_arrow.field(config.column).type
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        numbers = (pa.types.is_floating, pa.types.is_integer)
        if not any(of(kind) for of in lists) or not any(of(kind.value_type) for of in numbers):
            problems.add("type", file, config.column, f"holds {kind}; allowed: lists of numbers")
            return
        width, start = 0, 0
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=[config.id, config.column]):
            column = batch.column(config.column)
            known = np.asarray(pc.is_valid(column))
            lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
            width = width or int(lengths[known][0] if known.any() else 0)
            wrong = np.flatnonzero(known & ((lengths != width) | (lengths == 0)))
            _complain_of_width(config, wrong, lengths, width, start, problems)
            if not len(wrong):
                vectors = np.zeros((len(column), width))
                values = pc.list_flatten(column).cast(pa.float64(), safe=False)
                vectors[known] = pc.fill_null(values, np.nan).to_numpy().reshape(-1, max(width, 1))
                yield batch.column(config.id), vectors, known
            start += len(column)


def _complain_of_width(
    config: VectorsConfig,
    wrong: NDArray[np.int64],
    lengths: NDArray[np.int32],
    width: int,
    start: int,
    problems: Collector,
) -> None:
    allowed = f"as many as the first vector's {width:,}, or null where there is none"
    problems.add_rows(
        "width",
        str(config.path),
        config.column,
        wrong.tolist(),
        lambda place: start + place + 1,
        lambda place: f"has {lengths[place]:,} numbers; allowed: {allowed}",
    )
