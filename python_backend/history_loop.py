"""The loop that makes histories out of what users did, compiled: each item once, at its newest place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from tritonrec_client.contract import PADDING_ID, PADDING_INDEX, Status

from python_backend.compiled import compiled, constant, types

NO_ITEM, NO_INDEX = int(PADDING_ID), int(PADDING_INDEX)
UNKNOWN_SESSION_ITEM, SEEN_TRUNCATED = int(Status.UNKNOWN_SESSION_ITEM), int(Status.SEEN_TRUNCATED)


def _stack(
    stored: Any, lengths: Any, session: Any, wire_ids: Any, indices: Any,
    history: Any, seen: Any, status: Any,
) -> None:  # fmt: skip
    begin = 0
    for row in range(len(lengths)):
        events = lengths[row] + session.shape[1]
        # A hash table with at least as many free places as used ones; 0 is free.
        size = 2
        while size < 2 * events:
            size *= 2
        table = np.zeros(size, np.int64)
        found = 0
        for age in range(events):
            from_session = age < session.shape[1]
            if from_session:
                wire_id = session[row, session.shape[1] - 1 - age]
            else:
                wire_id = stored[begin + events - 1 - age]
            place = np.searchsorted(wire_ids, wire_id)
            known = place < len(wire_ids) and wire_ids[place] == wire_id
            item = indices[place] if known else NO_INDEX
            if item == NO_INDEX:
                if from_session and wire_id != NO_ITEM:
                    status[row] |= UNKNOWN_SESSION_ITEM
                continue
            place = (item * 0x9E3779B1) & (size - 1)
            while table[place] not in (0, item):
                place = (place + 1) & (size - 1)
            if table[place] == item:
                continue
            table[place] = item
            if found < history.shape[1]:
                history[row, history.shape[1] - 1 - found] = item
            if found < seen.shape[1]:
                seen[row, found] = item
            found += 1
        kept = min(found, seen.shape[1])
        seen[row, :kept] = seen[row, :kept][::-1].copy()  # oldest first
        if found > seen.shape[1]:
            status[row] |= SEEN_TRUNCATED
        begin += lengths[row]


@cache
def compile_loop() -> Callable[..., None]:
    """The loop, compiled once for a process.

    It takes the stored items of all rows, one row after another, int64 ``[n]``, and how many each row has,
    int64 ``[B]``; the session's items, int64 ``[B, S]``, newest last; a release's wire ids, ascending, and
    the index of each, int64 ``[I + 1]``. It writes history int32 ``[B, L]`` and seen int32 ``[B, E]``, which
    are full of zeros, and adds to the status int32 ``[B]``.
    """
    takes = [
        constant(types.int64, 1), constant(types.int64, 1), constant(types.int64, 2),
        constant(types.int64, 1), constant(types.int64, 1),
        types.int32[:, ::1], types.int32[:, ::1], types.int32[::1],
    ]  # fmt: skip
    loop: Callable[..., None] = compiled(takes, _stack)
    return loop
