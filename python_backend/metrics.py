"""How long batches take in each stage, for Triton's metrics.

A call of Triton's custom metrics costs 50 µs, a quarter of a millisecond for the stages of one batch, so
observations are gathered here and handed over once a second by a thread, away from requests.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from itertools import accumulate
from typing import Any

from tritonrec_client.contract import STAGE_SECONDS

BOUNDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper ends of the histogram's buckets, in seconds; one without an end follows."""
EVERY = 1.0
"""Seconds between two visits to Triton."""


class StageSeconds:
    """The histogram ``tritonrec_stage_seconds`` with the labels stage and release.

    `family_type` is Triton's MetricFamily; all processes of a server add to the same series. Prometheus takes
    the series for a histogram, as `histogram_quantile` wants them: ``_bucket`` by ``le``, ``_sum``,
    ``_count``.
    """

    def __init__(self, release: str, family_type: Any, *, every: float = EVERY) -> None:
        self._release = release
        self._families = {
            part: family_type(
                name=f"{STAGE_SECONDS}_{part}", description=description, kind=family_type.COUNTER
            )
            for part, description in (
                ("bucket", "Batches that took a stage no more seconds than le"),
                ("sum", "Seconds that batches took in a stage"),
                ("count", "Batches that a stage worked on"),
            )
        }
        self._counters: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[list[int], list[float]]] = {}
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._hand_over_regularly, daemon=True)
        self._thread.start()

    def observe(self, stage: str, seconds: float) -> None:
        """Count one batch of `stage`."""
        with self._lock:
            counts, total = self._seen.setdefault(stage, ([0] * (len(BOUNDS) + 1), [0.0]))
            counts[bisect_left(BOUNDS, seconds)] += 1
            total[0] += seconds

    def close(self) -> None:
        """Hand over what is left, and end."""
        self._ended.set()
        self._thread.join()
        self._hand_over()

    def _hand_over_regularly(self) -> None:
        while not self._ended.wait(self._every):
            self._hand_over()

    def _hand_over(self) -> None:
        with self._lock:
            seen, self._seen = self._seen, {}
        for stage, (counts, (total,)) in seen.items():
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), accumulate(counts), strict=True):
                if count:
                    self._counter("bucket", stage, le=bound).increment(count)
            self._counter("sum", stage).increment(total)
            self._counter("count", stage).increment(sum(counts))

    def _counter(self, part: str, stage: str, **labels: str) -> Any:
        key = (part, stage, *labels.values())
        if key not in self._counters:
            labels |= {"stage": stage, "release": self._release}
            self._counters[key] = self._families[part].Metric(labels=labels)
        return self._counters[key]
