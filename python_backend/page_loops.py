"""The loops that fill pages, compiled: one row after another, one place after another.

A page is made of some twenty choices, each of which looks at all candidates; as operations on whole arrays
that is hundreds of calls, whose overhead was two fifths of what a page cost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from tritonrec_client.contract import PADDING_ID, FoundBy, Reason, Status

from python_backend.compiled import compiled, constant, inlined, types

NOTHING = np.float32(-np.inf)
"""What a column is worth that may not be chosen any more."""
HISTORY, POPULAR, VARIETY, PINNED, EXPLORED, PADDING = (
    int(reason)
    for reason in (
        Reason.HISTORY, Reason.POPULAR, Reason.VARIETY, Reason.PINNED, Reason.EXPLORED, Reason.PADDING,
    )
)  # fmt: skip
NO_CHANNEL, NO_ITEM, SHORT_PAGE = int(FoundBy.NONE), int(PADDING_ID), int(Status.SHORT_PAGE)


class Loops(NamedTuple):
    """What `Page` is made of; their arrays are those of `Page`."""

    open: Callable[..., None]
    """Logits and probabilities of all columns, and which pinned items may be shown."""
    worth: Callable[..., None]
    """What each column is worth for the next place."""
    fill: Callable[..., None]
    """Fill some places, one after another."""
    finish: Callable[..., None]
    """The contract's outputs."""


# Sums in any order, so that they fit into vector registers.
@inlined(fastmath={"reassoc", "contract", "nsz"})
def _dot(vectors: Any, one: int, other: int) -> Any:
    total = np.float32(0)
    for place in range(vectors.shape[1]):
        total += vectors[one, place] * vectors[other, place]
    return total


def _open(
    items: Any, n_candidates: int, rank_score: Any, seen: Any, blocked: Any,
    logits: Any, probability: Any, pin_allowed: Any,
) -> None:  # fmt: skip
    for row in range(len(items)):
        met = seen[row][seen[row] != 0]
        met.sort()
        highest = NOTHING
        for column in range(items.shape[1]):
            item = items[row, column]
            place = np.searchsorted(met, item)
            allowed = not blocked[item] and not (place < len(met) and met[place] == item)
            logits[row, column] = NOTHING
            if column >= n_candidates:
                pin_allowed[row, column - n_candidates] = allowed
            elif allowed:
                logits[row, column] = rank_score[row, column]
                highest = max(highest, logits[row, column])
        total = np.float32(0)
        for column in range(n_candidates):
            if logits[row, column] > NOTHING:
                probability[row, column] = np.exp(logits[row, column] - highest)
                total += probability[row, column]
        for column in range(n_candidates):
            if logits[row, column] > NOTHING:
                probability[row, column] /= total
            # A pinned item keeps the probability it has as a candidate and is not chosen a second time.
            for pin in range(n_candidates, items.shape[1]):
                if items[row, column] == items[row, pin]:
                    probability[row, pin] += probability[row, column]
                    logits[row, column] = NOTHING


@inlined()
def _worth_of(
    row: int, column: int, best: Any, items: Any, value: Any, nearest: Any, compared: Any, picked: Any,
    n_picked: Any, weight: Any, vectors: Any,
) -> Any:  # fmt: skip
    """What the column is worth, or no more than `best` where it is not above that.

    How alike an item is to those above it only grows, so most columns need not be compared with all.
    """
    found = value[row, column] - weight[row] * nearest[row, column]
    while found > best and compared[row, column] < n_picked[row] and weight[row] > 0:
        alike = _dot(vectors, items[row, column], picked[row, compared[row, column]])
        nearest[row, column] = max(nearest[row, column], alike)
        compared[row, column] += 1
        found = value[row, column] - weight[row] * nearest[row, column]
    return found


@inlined()
def _capped(row: int, item: int, codes: Any, caps: Any, counts: Any) -> bool:
    for cap in range(len(caps)):
        for place in range(caps[cap, 0], caps[cap, 1]):
            code = codes[item, place]
            if code != 0 and counts[row, code] >= caps[cap, 2]:
                return True
    return False


def _worth(
    items: Any, value: Any, nearest: Any, compared: Any, picked: Any, n_picked: Any, weight: Any,
    vectors: Any, codes: Any, caps: Any, counts: Any, found: Any,
) -> None:  # fmt: skip
    for row in range(len(items)):
        for column in range(items.shape[1]):
            found[row, column] = NOTHING
            if value[row, column] > NOTHING and not _capped(row, items[row, column], codes, caps, counts):
                found[row, column] = _worth_of(
                    row, column, NOTHING, items, value, nearest, compared, picked, n_picked, weight,
                    vectors,
                )  # fmt: skip


def _fill(
    items: Any, value: Any, nearest: Any, compared: Any, picked: Any, n_picked: Any, weight: Any,
    vectors: Any, codes: Any, caps: Any, counts: Any, begin: int, end: int, drawn: Any,
    pin_columns: Any, pin_allowed: Any, chosen: Any, filled: Any, pinned: Any,
) -> None:  # fmt: skip
    n_candidates = items.shape[1] - pin_allowed.shape[1]
    for row in range(len(items)):
        for place in range(begin, end):
            best, best_column = NOTHING, -1
            if pin_columns[place] >= 0 and pin_allowed[row, pin_columns[place] - n_candidates]:
                best_column = pin_columns[place]
                pinned[row, place] = True
            elif drawn[row] >= 0:
                best_column = drawn[row]
            else:
                for column in range(n_candidates):
                    if value[row, column] <= best:
                        continue
                    found = _worth_of(
                        row, column, best, items, value, nearest, compared, picked, n_picked, weight,
                        vectors,
                    )  # fmt: skip
                    if found > best and not _capped(row, items[row, column], codes, caps, counts):
                        best, best_column = found, column
            if best_column < 0:
                continue
            item = items[row, best_column]
            chosen[row, place], filled[row, place] = best_column, True
            value[row, best_column] = NOTHING
            picked[row, n_picked[row]] = item
            n_picked[row] += 1
            if len(caps) and not pinned[row, place]:  # pinned items were counted at the start
                for code in range(codes.shape[1]):
                    counts[row, codes[item, code]] += 1


def _finish(
    items: Any, logits: Any, probability: Any, chosen: Any, filled: Any, pinned: Any, drawn: Any,
    propensity: Any, history: Any, found_by: Any, vectors: Any, wire_ids: Any, lookup_status: Any,
    item_id: Any, score: Any, reason: Any, channel: Any, because: Any, chance: Any, status: Any,
) -> None:  # fmt: skip
    n_candidates, results = found_by.shape[1], item_id.shape[1]
    for row in range(len(items)):
        base = POPULAR
        for place in range(history.shape[1]):
            if history[row, place] != 0:
                base = HISTORY
        # Places that stayed empty go to the end.
        end = 0
        for place in range(results):
            if not filled[row, place]:
                continue
            column = chosen[row, place]
            item = items[row, column]
            item_id[row, end], score[row, end] = wire_ids[item], probability[row, column]
            chance[row, end] = propensity[row, place]
            above = 0
            for other in range(n_candidates):
                above += logits[row, other] > logits[row, column]
            reason[row, end] = VARIETY if above >= results else base
            if drawn[row, place]:
                reason[row, end] = EXPLORED
            if pinned[row, place]:
                reason[row, end] = PINNED
            channel[row, end] = NO_CHANNEL
            if not pinned[row, place] and not drawn[row, place]:
                channel[row, end] = found_by[row, column]
            nearest, because[row, end] = np.float32(0), NO_ITEM
            for place_before in range(history.shape[1]):
                # The vector of padding is zero.
                alike = _dot(vectors, item, history[row, place_before])
                if alike > nearest:
                    nearest, because[row, end] = alike, wire_ids[history[row, place_before]]
            end += 1
        status[row, 0] = lookup_status[row, 0]
        if end < results:
            status[row, 0] |= SHORT_PAGE
        for place in range(end, results):
            item_id[row, place], because[row, place] = NO_ITEM, NO_ITEM
            score[row, place], chance[row, place] = 0, 1
            reason[row, place], channel[row, place] = PADDING, NO_CHANNEL


@cache
def compile_loops() -> Loops:
    """The loops, compiled once for a process."""
    flags, columns = types.boolean[:, ::1], types.float32[:, ::1]
    ints, longs = constant(types.int32, 2), types.int64[:, ::1]
    filling = [
        ints, columns, columns, types.int32[:, ::1], types.int32[:, ::1], types.int64[::1],
        constant(types.float32, 1), constant(types.float32, 2), ints, constant(types.int64, 2),
        types.int32[:, ::1],
    ]  # fmt: skip
    opening = [ints, types.int64, constant(types.float32, 2), ints,
        constant(types.boolean, 1), columns, columns, flags]  # fmt: skip
    places = [
        constant(types.int64, 1),
        constant(types.int64, 1),
        constant(types.boolean, 2),
        longs,
        flags,
        flags,
    ]
    finishing = [
        ints, constant(types.float32, 2), constant(types.float32, 2), constant(types.int64, 2),
        constant(types.boolean, 2), constant(types.boolean, 2), constant(types.boolean, 2),
        constant(types.float32, 2), ints, ints, constant(types.float32, 2), constant(types.int64, 1), ints,
        longs, columns, types.int32[:, ::1], types.int32[:, ::1], longs, columns, types.int32[:, ::1],
    ]  # fmt: skip
    return Loops(
        compiled(opening, _open),
        compiled([*filling, columns], _worth),
        compiled([*filling, types.int64, types.int64, *places], _fill),
        compiled(finishing, _finish),
    )
