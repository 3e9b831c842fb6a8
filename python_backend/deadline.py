"""Shedding by time: which requests are no longer worth computing.

A client's own timeout does not take its request out of Triton's queues, so an overloaded server works for
callers who gave up. Callers that say until when an answer is of use are told at once instead.
"""

from __future__ import annotations

import json
import time

from tritonrec_client.contract import DEADLINE

from python_backend.stages.base import InvalidRequest


def milliseconds_left(parameters: str, now: float | None = None) -> float:
    """Time until the deadline in a request's `parameters`, a JSON object or an empty string.

    Infinite where there is none, negative where it has passed; `now` is Unix time in seconds, by default the
    clock's. Raises InvalidRequest where the deadline is not an integer.
    """
    # Most requests carry no parameters at all; they cost no parsing.
    if DEADLINE not in parameters:
        return float("inf")
    deadline = json.loads(parameters).get(DEADLINE, None)
    if not isinstance(deadline, int) or isinstance(deadline, bool):
        raise InvalidRequest(DEADLINE, repr(deadline), "an integer, milliseconds of Unix time")
    return deadline - (time.time() if now is None else now) * 1000
