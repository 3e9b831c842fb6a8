"""The search's loops as Triton kernels: five launches, and the index is read once.

A library's operators would write every score to memory and read it again, several times, and start some forty
kernels for what is left; at a million items that takes longer than reading the index.

``TRITON_INTERPRET=1`` runs them on a processor, for tests. (Triton, the language, has nothing to do with
Triton, the server.)
"""

# Triton looks annotations up, and takes none but its own.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

NEVER = tl.constexpr(-1e30)
LEFT = tl.constexpr(-5e29)
PADDING_SCORE = tl.constexpr(-1e4)
LAST_ITEM = tl.constexpr(2**31 - 1)
HALVINGS = tl.constexpr(12)


@triton.jit
def prepare(
    queries, seen, coded, steps, errors, counts, hidden,
    error_of_length, error, n, n_seen,
    width: tl.constexpr, columns: tl.constexpr, at_once: tl.constexpr,
):  # fmt: skip
    """Of each row: the query in half precision, how wrong its scores may be, and marks of what is seen."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, columns)
    query = tl.load(queries + row * width + column, mask=column < width, other=0.0)
    step = tl.maximum(tl.max(tl.abs(query), 0), 1e-30)
    tl.store(coded + row * columns + column, (query / step).to(tl.float16))
    tl.store(steps + row, step)
    tl.store(errors + row, tl.sqrt(tl.sum(query * query, 0)) * error_of_length + error)
    tl.store(counts + row, 0)
    for begin in range(0, n_seen, at_once):
        place = begin + tl.arange(0, at_once)
        item = tl.load(seen + row * n_seen + place, mask=place < n_seen, other=0)
        there = (place < n_seen) & (item >= 0) & (item < n)
        tl.store(hidden + row * n + item, tl.full([at_once], 1, tl.int8), mask=there)


@triton.jit
def scan(
    table, scales, bias, hidden, coded, steps, maxima, sums,
    rows, n, tiles,
    width: tl.constexpr, columns: tl.constexpr, batch: tl.constexpr, tile_size: tl.constexpr,
    part_size: tl.constexpr, scaled: tl.constexpr,
):  # fmt: skip
    """Greatest score and sum of exponentials, relative to it, of each tile of items for each row."""
    tile = tl.program_id(0).to(tl.int64)
    row, column = tl.arange(0, batch), tl.arange(0, columns)
    known = row < rows
    step = tl.load(steps + row, mask=known, other=0.0)
    query = tl.load(coded + row[None, :] * columns + column[:, None], mask=known[None, :], other=0.0)
    greatest, total = tl.full([batch], NEVER, tl.float32), tl.zeros([batch], tl.float32)
    for begin in range(0, tile_size, part_size):
        item = tile * tile_size + begin + tl.arange(0, part_size)
        place = item[:, None] * width + column[None, :]
        vectors = tl.load(table + place, mask=(column < width)[None, :], other=0.0).to(tl.float16)
        if batch == 1:
            products = tl.sum(vectors.to(tl.float32) * tl.reshape(query, [1, columns]).to(tl.float32), 1)
            scores = tl.reshape(products, [part_size, 1]) * step[None, :]
        else:
            scores = tl.dot(vectors, query) * step[None, :]
        if scaled:
            scores = scores * tl.load(scales + item)[:, None]
        scores = scores + tl.load(bias + item)[:, None]
        marks = tl.load(hidden + row[None, :].to(tl.int64) * n + item[:, None], mask=known[None, :], other=1)
        scores = tl.where(marks != 0, NEVER, scores)
        top = tl.maximum(greatest, tl.max(scores, 0))
        total = total * tl.exp(greatest - top) + tl.sum(tl.exp(scores - top[None, :]), 0)
        greatest = top
    tl.store(maxima + row * tiles + tile, greatest, mask=known)
    tl.store(sums + row * tiles + tile, total, mask=known)


@triton.jit
def threshold(
    maxima, sums, least, greatest, totals, tiles,
    room: tl.constexpr, wanted: tl.constexpr,
):  # fmt: skip
    """What at least `wanted` tiles' maxima reach, and the whole row's maximum and sum of exponentials.

    The greatest such value is come near to from below, by halving: it only has to be a lower bound.
    """
    row = tl.program_id(0)
    place = tl.arange(0, room)
    values = tl.load(maxima + row * tiles + place, mask=place < tiles, other=NEVER)
    top = tl.max(values, 0)
    parts = tl.load(sums + row * tiles + place, mask=place < tiles, other=0.0)
    tl.store(greatest + row, top)
    tl.store(totals + row, tl.sum(parts * tl.exp(values - top), 0))
    low = tl.min(tl.where(values > LEFT, values, -NEVER), 0)
    high = top
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        enough = tl.sum((values >= middle).to(tl.int32), 0) >= wanted
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
    left = tl.sum((values > LEFT).to(tl.int32), 0)
    # With fewer tiles than candidates, whatever is left may be among the best.
    tl.store(least + row, tl.where(left >= wanted, low, NEVER))


@triton.jit
def collect(
    exact, table, scales, bias, hidden, queries, coded, steps,
    errors, maxima, least, counts, items, scores, rough,
    n, tiles,
    width: tl.constexpr, columns: tl.constexpr, tile_size: tl.constexpr, part_size: tl.constexpr,
    group: tl.constexpr, capacity: tl.constexpr, scaled: tl.constexpr,
):  # fmt: skip
    """Every item that may be among the best: its float32 score, and what the scan made of it.

    No such item's score is below `least` less the error, and no such tile's maximum below it by twice that.
    """
    row = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, columns)
    error, lowest = tl.load(errors + row), tl.load(least + row)
    keep_from = tl.maximum(lowest - error, LEFT)
    look_from = tl.maximum(lowest - 2 * error, LEFT)
    query = tl.load(queries + row * width + column, mask=column < width, other=0.0)
    code = tl.load(coded + row * columns + column).to(tl.float32)
    step = tl.load(steps + row)
    for number in range(group):
        tile = tl.program_id(0).to(tl.int64) * group + number
        top = tl.load(maxima + row * tiles + tile, mask=tile < tiles, other=NEVER)
        if top >= look_from:
            for begin in range(0, tile_size, part_size):
                item = tile * tile_size + begin + tl.arange(0, part_size)
                place, inside = item[:, None] * width + column[None, :], (column < width)[None, :]
                offset = tl.load(bias + item)
                guess = tl.load(table + place, mask=inside, other=0.0).to(tl.float32) * code[None, :]
                guess = tl.sum(guess, 1) * step
                if scaled:
                    guess = guess * tl.load(scales + item)
                guess = tl.where(tl.load(hidden + row * n + item) != 0, NEVER, guess + offset)
                # Of the float32 vectors, which are the largest table, only the few rows that may be wanted.
                near = guess >= look_from
                vectors = tl.load(exact + place, mask=near[:, None] & inside, other=0.0)
                score = tl.where(near, tl.sum(vectors * query[None, :], 1) + offset, NEVER)
                keep = score >= keep_from
                count = tl.sum(keep.to(tl.int32), 0)
                if count > 0:
                    first = tl.atomic_add(counts + row, count)
                    slot = first + tl.cumsum(keep.to(tl.int32), 0) - 1
                    keep = keep & (slot < capacity)
                    tl.store(items + row * capacity + slot, item.to(tl.int32), mask=keep)
                    tl.store(scores + row * capacity + slot, score, mask=keep)
                    tl.store(rough + row * capacity + slot, guess, mask=keep)


@triton.jit
def finish(
    seen, hidden, counts, items, scores, rough, greatest, totals,
    candidate, score, certain, n, n_seen,
    wanted: tl.constexpr, capacity: tl.constexpr, at_once: tl.constexpr,
):  # fmt: skip
    """The best of what was collected, in order, as log probabilities; and the marks are removed."""
    row = tl.program_id(0).to(tl.int64)
    count = tl.load(counts + row)
    place = tl.arange(0, capacity)
    there = place < count
    values = tl.load(scores + row * capacity + place, mask=there, other=NEVER)
    guesses = tl.load(rough + row * capacity + place, mask=there, other=NEVER)
    item = tl.load(items + row * capacity + place, mask=there, other=0)
    top = tl.maximum(tl.load(greatest + row), tl.max(values, 0))
    total = tl.load(totals + row) * tl.exp(tl.load(greatest + row) - top)
    total += tl.sum(tl.where(there, tl.exp(values - top) - tl.exp(guesses - top), 0.0), 0)
    normaliser = top + tl.log(tl.maximum(total, 1e-30))
    # As `keys` makes them: greater scores first, equal ones by item.
    bits = (values + 0.0).to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & LAST_ITEM)
    keys = (ordered.to(tl.int64) << 32) | (-item + LAST_ITEM).to(tl.int64)
    keys = tl.sort(keys, descending=True)
    ordered = (keys >> 32).to(tl.int32)
    values = (ordered ^ ((ordered >> 31) & LAST_ITEM)).to(tl.float32, bitcast=True)
    item = (-(keys & LAST_ITEM) + LAST_ITEM).to(tl.int32)
    left = values > LEFT
    among = place < wanted
    tl.store(candidate + row * wanted + place, tl.where(left, item, 0), mask=among)
    tl.store(score + row * wanted + place, tl.where(left, values - normaliser, PADDING_SCORE), mask=among)
    tl.store(certain + row, (count <= capacity).to(tl.int8))
    for begin in range(0, n_seen, at_once):
        at = begin + tl.arange(0, at_once)
        mark = tl.load(seen + row * n_seen + at, mask=at < n_seen, other=0)
        marked = (at < n_seen) & (mark >= 0) & (mark < n)
        tl.store(hidden + row * n + mark, tl.zeros([at_once], tl.int8), mask=marked)
