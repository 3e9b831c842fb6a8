"""The loops of the search over a catalogue, compiled by numba for the processor that they run on.

A library's matrix products write a score for every item, which is as many bytes again to write and read;
here scores live in a buffer of a few hundred bytes, and only what the search asks for leaves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from python_backend.compiled import compiled, constant, types
from python_backend.dot_product import dot
from python_backend.item_index import BLOCK, NEVER

# Sums in any order, so that they fit into vector registers, and no NaN, which finite inputs never give.
FAST = {"reassoc", "contract", "arcp", "nnan", "nsz"}

# 2 ** x for x in [-0.5, 0.5]: Taylor's series to the 6th power, which is wrong by less than 2e-8.
LOG2E, LEAST_POWER = np.float32(1.442695), np.float32(-126)
C1, C2, C3 = np.float32(0.6931472), np.float32(0.2402265), np.float32(0.05550411)
C4, C5, C6 = np.float32(0.009618129), np.float32(0.0013333558), np.float32(0.0001540353)
ONE, HALF, ZERO = np.float32(1), np.float32(0.5), np.float32(0)
EXPONENT_BIAS, MANTISSA_BITS = np.int32(127), np.int32(23)
LEAST, SIGN_BIT, BUT_SIGN = np.int32(-(2**31)), np.int32(31), np.int32(2**31 - 1)


class Kernels(NamedTuple):
    """The loops for vectors of one width."""

    scan: Callable[..., None]
    """Maximum and sum of exponentials of the scores in each block of each row."""
    collect: Callable[..., int]
    """The items of some blocks whose score is at least a threshold."""


def compile_kernels(width: int) -> Kernels:
    """The loops for vectors of `width`, a constant in them: that alone makes them twice as fast."""

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
                    power = (scores[item] - best) * LOG2E
                    power = power if power > LEAST_POWER else LEAST_POWER
                    whole = np.int32(power - HALF)
                    x = power - np.float32(whole)
                    series = ONE + x * (C1 + x * (C2 + x * (C3 + x * (C4 + x * (C5 + x * C6)))))
                    total += series * np.int32((whole + EXPONENT_BIAS) << MANTISSA_BITS).view(np.float32)
                maxima[row, block] = best
                sums[row, block] = total

    def collect(
        codes: Any, scales: Any, bias: Any, query: Any, step: Any, seen: Any,
        blocks: Any, threshold: Any, found: Any, found_scores: Any,
    ) -> int:  # fmt: skip
        dots, scores = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
        count = next_seen = 0
        for block in blocks:
            first = block * BLOCK
            stop = first + BLOCK
            block_codes, block_scales, block_bias = codes[first:stop], scales[first:stop], bias[first:stop]
            for item in range(BLOCK):
                dots[item] = dot(block_codes[item], query, width)
            for item in range(BLOCK):
                scores[item] = step * np.float32(dots[item]) * block_scales[item] + block_bias[item]
            while next_seen < len(seen) and seen[next_seen] < stop:
                if seen[next_seen] >= first:
                    scores[seen[next_seen] - first] = NEVER
                next_seen += 1
            for item in range(BLOCK):
                # Written always and counted only where it counts: no branch to guess.
                found[count], found_scores[count] = first + item, scores[item]
                count += scores[item] >= threshold
        return count

    index = [constant(types.int8, 2), constant(types.float32, 1), constant(types.float32, 1)]
    integers, floats = types.int64[::1], types.float32[:, ::1]
    scan_takes = [
        *index, constant(types.int16, 2), constant(types.float32, 1), constant(types.int32, 2),
        integers, types.int64, types.int64, floats, floats,
    ]  # fmt: skip
    collect_takes = [
        *index, constant(types.int16, 1), types.float32, constant(types.int32, 1),
        constant(types.int64, 1), types.float32, integers, types.float32[::1],
    ]  # fmt: skip
    return Kernels(
        compiled(scan_takes, scan, fastmath=FAST),
        compiled(collect_takes, collect, gives=types.int64, fastmath=FAST),
    )
