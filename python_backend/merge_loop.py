"""The loop that makes one list of several channels' lists, compiled."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from tritonrec_client.contract import PADDING_INDEX

from python_backend.compiled import compiled, constant, types

NO_ITEM = int(PADDING_INDEX)


def _merge(
    items: Any, scores: Any, ends: Any, of_rank: Any, above: Any, codes: Any,
    candidate: Any, score: Any, channel: Any,
) -> None:  # fmt: skip
    rows, width = items.shape
    # A hash table with at least as many free places as used ones; 0 is free, otherwise an item's number + 1.
    size = 2
    while size < 2 * width:
        size *= 2
    table = np.zeros(size, np.int32)
    found, total = np.zeros(width, np.int32), np.zeros(width, np.float32)
    loudest, said_by = np.zeros(width, np.float32), np.zeros(width, np.int32)
    for row in range(rows):
        table[:] = 0
        count = 0
        begin = 0
        for voice in range(len(ends)):
            lowest = np.float32(np.inf)
            for place in range(begin, ends[voice]):
                if items[row, place] != NO_ITEM:
                    lowest = min(lowest, scores[row, place])
            for place in range(begin, ends[voice]):
                item = items[row, place]
                if item == NO_ITEM:
                    continue
                word = of_rank[place] + above[voice] * (scores[row, place] - lowest)
                slot = (item * 0x9E3779B1) & (size - 1)
                while table[slot] != 0 and found[table[slot] - 1] != item:
                    slot = (slot + 1) & (size - 1)
                number = table[slot] - 1
                if number < 0:
                    number = count
                    count += 1
                    table[slot] = count
                    found[number], total[number] = item, 0.0
                    loudest[number] = -np.inf
                total[number] += word
                # Of equals the earlier channel.
                if word > loudest[number]:
                    loudest[number], said_by[number] = word, codes[voice]
            begin = ends[voice]
        # One number for each item, in whose order the greatest sums come first and of equals the smallest
        # item: the bits of a float that is not negative are in its order, those of a negative one against it.
        order = np.empty(count, np.int64)
        bits = total.view(np.int32)
        for number in range(count):
            sign_and_size = bits[number]
            if sign_and_size < 0:
                sign_and_size ^= 0x7FFFFFFF
            order[number] = (np.int64(~sign_and_size) << 32) | found[number]
        order.sort()
        kept = min(count, candidate.shape[1])
        probability = 0.0
        for place in range(kept):
            item = order[place] & 0x7FFFFFFF
            slot = (item * 0x9E3779B1) & (size - 1)
            while found[table[slot] - 1] != item:
                slot = (slot + 1) & (size - 1)
            number = table[slot] - 1
            candidate[row, place], channel[row, place] = item, said_by[number]
            # Below the highest, which is the first.
            score[row, place] = total[number]
            probability += math.exp(total[number] - score[row, 0])
        if kept:
            level = score[row, 0] + math.log(probability)
            for place in range(kept):
                score[row, place] -= level


@cache
def compile_loop() -> Callable[..., None]:
    """The loop, compiled once for a process.

    It takes the channels' lists side by side, items int32 and scores float32 ``[B, W]``; where each channel's
    ends, int64 ``[C]``; what its place says, float32 ``[W]``; of each channel what it says that
    a score is above its list's lowest, float32 ``[C]``, and its code, int32 ``[C]``. It writes the best
    candidates of all int32 ``[B, K]``, their log probabilities float32 and the codes of the channels whose
    word counted most int32; places that are left stay as they are.
    """
    takes = [
        constant(types.int32, 2), constant(types.float32, 2), constant(types.int64, 1),
        constant(types.float32, 1), constant(types.float32, 1), constant(types.int32, 1),
        types.int32[:, ::1], types.float32[:, ::1], types.int32[:, ::1],
    ]  # fmt: skip
    loop: Callable[..., None] = compiled(takes, _merge)
    return loop
