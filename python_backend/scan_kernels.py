"""The loops of the search over a catalogue, compiled by numba for the processor that they run on.

A library's matrix products write a score for every item, which is as many bytes again to write and read;
here scores live in a buffer of a few hundred bytes, and only what the search asks for leaves it. What is done
after the scan is some thirty operations on small arrays, whose overhead was more than their work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from python_backend.compiled import compiled, constant, inlined, types
from python_backend.dot_product import dot
from python_backend.item_index import BLOCK, NEVER, NO_MORE
from python_backend.prefetch import prefetch

# Sums in any order, so that they fit into vector registers, and no NaN, which finite inputs never give.
FAST = {"reassoc", "contract", "arcp", "nnan", "nsz"}

# 2 ** x for x in [-0.5, 0.5]: Taylor's series to the 6th power, which is wrong by less than 2e-8.
LOG2E, LEAST_POWER = np.float32(1.442695), np.float32(-126)
C1, C2, C3 = np.float32(0.6931472), np.float32(0.2402265), np.float32(0.05550411)
C4, C5, C6 = np.float32(0.009618129), np.float32(0.0013333558), np.float32(0.0001540353)
ONE, HALF, ZERO = np.float32(1), np.float32(0.5), np.float32(0)
EXPONENT_BIAS, MANTISSA_BITS = np.int32(127), np.int32(23)
TINY = np.finfo(np.float32).tiny
LEAST, SIGN_BIT, BUT_SIGN = np.int32(-(2**31)), np.int32(31), np.int32(2**31 - 1)
NOWHERE = NEVER / np.float32(2)
"""Below this is only what must never be found."""

AHEAD = 2
"""What lies apart is asked of memory so many places before it is read."""

FEWER = 8
"""Selecting the K-th greatest looks at groups of so many values first."""


class Kernels(NamedTuple):
    """The loops for vectors of one width."""

    prepare: Callable[..., None]
    """Queries in whole steps, how much of them that loses, and what is seen, with NO_MORE behind."""
    scan: Callable[..., None]
    """Maximum and sum of exponentials of the scores in each block of each row."""
    select: Callable[..., Any]
    """The items of a row that may be among its best, their scores, and the logarithm of the normaliser."""


# Put into the loops before they are compiled: as a call it made the scan of eight queries a quarter slower.
@inlined(inline="always", fastmath=FAST)
def _exponential(x: Any) -> Any:
    """e to the power of `x` float32, at most about 1, wrong by a part of 2e-8."""
    power = x * LOG2E
    power = power if power > LEAST_POWER else LEAST_POWER
    whole = np.int32(power - HALF)
    x = power - np.float32(whole)
    series = ONE + x * (C1 + x * (C2 + x * (C3 + x * (C4 + x * (C5 + x * C6)))))
    return series * np.int32((whole + EXPONENT_BIAS) << MANTISSA_BITS).view(np.float32)


# By itself: as a part of another loop the same vector might be added up differently elsewhere.
@inlined(fastmath=FAST)
def _float_dot(one: Any, other: Any) -> Any:
    total = ZERO
    for place in range(len(one)):
        total += one[place] * other[place]
    return total


# numpy's own partition takes numba eight seconds to compile.
@inlined()
def _find(values: Any, count: int, place: int) -> Any:
    """What stands at `place` among the first `count` of `values` in ascending order; moves them about.

    C. A. R. Hoare, "Algorithm 65: FIND", 1961.
    """
    begin, end = 0, count - 1
    while begin < end:
        pivot, low, high = values[place], begin, end
        while low <= high:
            while values[low] < pivot:
                low += 1
            while pivot < values[high]:
                high -= 1
            if low <= high:
                values[low], values[high] = values[high], values[low]
                low += 1
                high -= 1
        if high < place:
            begin = low
        if place < low:
            end = high
    return values[place]


@inlined()
def _kth_greatest(values: Any, k: int) -> Any:
    """The `k`-th greatest of `values` float32; NEVER where there are fewer."""
    if len(values) < k:
        return NEVER
    kept, count, groups = values.copy(), len(values), len(values) // FEWER
    if groups > 2 * k:
        # The k-th greatest of the maxima of groups: k values are no smaller, and not many more.
        for group in range(groups):
            kept[group] = values[group * FEWER : (group + 1) * FEWER].max()
        least = _find(kept, groups, groups - k)
        count = 0
        for value in values:
            # Written always and counted only where it counts: no branch to guess.
            kept[count] = value
            count += value >= least
    return _find(kept, count, count - k)


def compile_kernels(width: int) -> Kernels:
    """The loops for vectors of `width`, a constant in them: that alone makes them twice as fast."""

    def prepare(
        queries: Any, seen: Any, levels: Any, coded: Any, steps: Any, listed: Any, lengths: Any, lost: Any
    ) -> None:
        for row in range(len(queries)):
            greatest = ZERO
            for place in range(width):
                greatest = max(greatest, abs(queries[row, place]))
            step = greatest / levels
            steps[row], length, away = step, ZERO, ZERO
            for place in range(width):
                value = queries[row, place]
                whole = np.rint(value / step) if step > 0 else ZERO
                coded[row, place] = np.int16(whole)
                length += value * value
                away += (value - whole * step) * (value - whole * step)
            lengths[row], lost[row] = np.sqrt(length), np.sqrt(away)
            # Most places are not used; and nothing may be written before the beginning of an array.
            count = 0
            for item in seen[row]:
                listed[row, count] = item
                count += item > 0
            listed[row, count:] = NO_MORE

    def scan(
        codes: Any, scales: Any, bias: Any, queries: Any, steps: Any, seen: Any,
        next_seen: Any, begin: int, end: int, maxima: Any, sums: Any,
    ) -> None:  # fmt: skip
        # A block at a time: while its scores are worked out, the processor fetches the next one's codes. With
        # 256 items at a time it would run out of work to fetch for, and wait a tenth longer.
        dots, scores = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
        bits = scores.view(np.int32)
        for block in range(begin, end):
            first = block * BLOCK
            stop = first + BLOCK
            # Slices begin at 0, which spares the loops a look whether an index counts from the end.
            block_codes, block_scales, block_bias = codes[first:stop], scales[first:stop], bias[first:stop]
            for row in range(len(queries)):
                query, step = queries[row], steps[row]
                for item in range(BLOCK):
                    dots[item] = dot(block_codes[item], query, width)
                for item in range(BLOCK):
                    scores[item] = step * np.float32(dots[item]) * block_scales[item] + block_bias[item]
                place = next_seen[row]
                while place < seen.shape[1] and seen[row, place] < stop:
                    scores[seen[row, place] - first] = NEVER
                    place += 1
                next_seen[row] = place
                # Floats are ordered as their bits are, but for those below 0, which this turns round: the
                # greatest of integers is found a vector at a time, that of floats one by one.
                greatest = LEAST
                for item in range(BLOCK):
                    greatest = max(greatest, np.int32(bits[item] ^ ((bits[item] >> SIGN_BIT) & BUT_SIGN)))
                greatest = np.int32(greatest ^ ((greatest >> SIGN_BIT) & BUT_SIGN))
                best = greatest.view(np.float32)
                total = ZERO
                for item in range(BLOCK):
                    total += _exponential(scores[item] - best)
                maxima[row, block] = best
                sums[row, block] = total

    def select(
        codes: Any, scales: Any, bias: Any, vectors: Any, block_scales: Any, greatest_scale: Any,
        query: Any, coded: Any, step: Any, seen: Any, error: Any, rounding: Any,
        maxima: Any, sums: Any, candidates: int,
    ) -> Any:  # fmt: skip
        # No item of the best K is below this, nor in a block that is.
        lowest = maxima - error * block_scales
        least = _kth_greatest(lowest, candidates) - 2 * rounding
        blocks, count = np.empty(len(maxima), np.int64), 0
        for block in range(len(maxima)):
            blocks[count] = block
            count += maxima[block] + error * block_scales[block] >= least and maxima[block] > NOWHERE
        blocks = blocks[:count]
        # Of these blocks, what may be among the best by its codes …
        threshold = max(least - error * greatest_scale, NOWHERE)
        dots, scores = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
        found, coded_scores = np.empty(count * BLOCK + 1, np.int64), np.empty(count * BLOCK + 1, np.float32)
        count = next_seen = 0
        for number in range(len(blocks)):
            if number + AHEAD < len(blocks):
                for item in range(BLOCK):
                    prefetch(codes, blocks[number + AHEAD] * BLOCK + item)
            first = blocks[number] * BLOCK
            stop = first + BLOCK
            block_codes, block_of_scales, block_bias = codes[first:stop], scales[first:stop], bias[first:stop]
            for item in range(BLOCK):
                dots[item] = dot(block_codes[item], coded, width)
            for item in range(BLOCK):
                scores[item] = step * np.float32(dots[item]) * block_of_scales[item] + block_bias[item]
            while next_seen < len(seen) and seen[next_seen] < stop:
                if seen[next_seen] >= first:
                    scores[seen[next_seen] - first] = NEVER
                next_seen += 1
            for item in range(BLOCK):
                found[count], coded_scores[count] = first + item, scores[item]
                count += scores[item] >= threshold
        # … and of it what may be by its own codes' error, to be scored again by its vector.
        lowest = np.empty(count, np.float32)
        for place in range(count):
            lowest[place] = coded_scores[place] - error * scales[found[place]]
        least = _kth_greatest(lowest, candidates) - 2 * rounding
        near = 0
        for place in range(count):
            item, score = found[place], coded_scores[place]
            found[near], coded_scores[near] = item, score
            near += score + error * scales[item] >= least
        exact = np.empty(near, np.float32)
        for place in range(near):
            if place + AHEAD < near:
                prefetch(vectors, found[place + AHEAD])
            exact[place] = _float_dot(vectors[found[place]], query) + bias[found[place]]
        greatest = maxima.max()
        for score in exact:
            greatest = max(greatest, score)
        total = ZERO
        for block in range(len(maxima)):
            total += sums[block] * _exponential(maxima[block] - greatest)
        # Codes' scores are wrong in both directions: in a sum over many items that cancels out, and the few
        # that the sum rests on are corrected. What is left is below 0.001 for trained vectors, and one
        # constant for all items of a row.
        for place in range(near):
            total += _exponential(exact[place] - greatest) - _exponential(coded_scores[place] - greatest)
        return found[:near], exact, greatest + np.log(max(total, TINY))

    index = [constant(types.int8, 2), constant(types.float32, 1), constant(types.float32, 1)]
    integers, floats = types.int64[::1], types.float32[:, ::1]
    scan_takes = [
        *index, constant(types.int16, 2), constant(types.float32, 1), constant(types.int32, 2),
        integers, types.int64, types.int64, floats, floats,
    ]  # fmt: skip
    prepare_takes = [
        constant(types.float32, 2), constant(types.int32, 2), types.float32, types.int16[:, ::1],
        types.float32[::1], types.int32[:, ::1], types.float32[::1], types.float32[::1],
    ]  # fmt: skip
    select_takes = [
        *index, constant(types.float32, 2), constant(types.float32, 1), types.float32,
        constant(types.float32, 1), constant(types.int16, 1), types.float32, constant(types.int32, 1),
        types.float32, types.float32, constant(types.float32, 1), constant(types.float32, 1), types.int64,
    ]  # fmt: skip
    select_gives = types.Tuple([types.int64[::1], types.float32[::1], types.float32])  # type: ignore[no-untyped-call]
    return Kernels(
        compiled(prepare_takes, prepare, fastmath=FAST),
        compiled(scan_takes, scan, fastmath=FAST),
        compiled(select_takes, select, gives=select_gives, fastmath=FAST),
    )
