"""Shedding by time: which requests are no longer worth computing.

A client's own timeout does not take its request out of Triton's queues, so an overloaded server works for
callers who gave up. Callers that say until when an answer is of use are told at once instead.

Triton hands out the oldest requests first, so under too much load whole batches are nearly out of time. To
compute all of such a batch makes every answer in it late; to compute a part makes that part in time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from tritonrec_client.contract import DEADLINE

from python_backend.stages.base import InvalidRequest

ENOUGH = 5.0
"""Batches after which the line means something, and so does how far one was from it."""
MEMORY = 0.9
"""What a batch's time still counts when the next one is done: some ten batches are remembered."""


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


class Admission:
    """Chooses which requests of a batch are computed, so that each answer comes in time.

    `margin` is the time in milliseconds that must be left when the batch is done: what is still to come takes
    so long. How long a batch takes is learned, as a line over its rows, from the batches before it, and how
    far they were from that line; an estimate is twice that on the safe side, much as TCP's retransmission
    timer is (V. Jacobson, "Congestion Avoidance and Control", 1988).
    """

    def __init__(self, margin: float) -> None:
        self._margin = margin
        # Sums over earlier batches, newer ones weighing more: batches, rows, ms, rows², rows · ms.
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._deviation = 0.0

    def observe(self, rows: int, milliseconds: float) -> None:
        """A batch of `rows` took so long."""
        if self._sums[0] > ENOUGH:
            away = abs(milliseconds - self._expected(rows))
            self._deviation += (1 - MEMORY) * (away - self._deviation)
        new = (1.0, rows, milliseconds, rows * rows, rows * milliseconds)
        self._sums = tuple(MEMORY * old + each for old, each in zip(self._sums, new, strict=True))  # type: ignore[assignment]

    def needed(self, rows: int) -> float:
        """Milliseconds that must be left for a request in a batch of `rows`."""
        return self._margin + self._expected(rows) + 2 * self._deviation

    def _expected(self, rows: int) -> float:
        """Milliseconds that a batch of `rows` takes; 0 before anything is known."""
        batches, total_rows, total, squares, products = self._sums
        if not batches:
            return 0.0
        spread = batches * squares - total_rows**2
        # Batches of one size say nothing about others but that each row takes its share.
        slope = total / total_rows
        if spread > 1e-6 * batches * squares:
            slope = min(slope, max(0.0, (batches * products - total_rows * total) / spread))
        start = (total - slope * total_rows) / batches
        return start + slope * rows

    def choose(self, left: Sequence[float], rows: Sequence[int]) -> list[float | None]:
        """For each request None where it is accepted, else the milliseconds that it would have needed.

        `left` is the time that each has, `rows` how many rows each brings. Accepted are as many as can be in
        time together, those with the most time left; and one at least that has the margin, whatever was
        learned: it shows whether times are better again.
        """
        refused: list[float | None] = [None] * len(left)
        batch = 0
        for number in sorted(range(len(left)), key=lambda number: -left[number]):
            needed = self.needed(batch + rows[number]) if batch else self._margin
            if left[number] < needed:
                refused[number] = needed
            else:
                batch += rows[number]
        return refused
