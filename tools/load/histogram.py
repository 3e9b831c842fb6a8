"""Latencies in an HDR histogram: any percentile to 0.1 %, in memory that does not grow.

G. Tene, "HdrHistogram: A High Dynamic Range Histogram", http://hdrhistogram.org.
"""

from __future__ import annotations

import math

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

LOWEST, HIGHEST, DIGITS = 1, 60_000_000, 3
"""Microseconds that are told apart, and to how many significant digits."""

RESOLUTION = 10.0**-DIGITS
"""The greatest relative error of a percentile; a microsecond is added below a millisecond."""


class Histogram:
    """Latencies in milliseconds, from a microsecond to a minute; longer ones count as a minute."""

    def __init__(self) -> None:
        self._counts = HdrHistogram(LOWEST, HIGHEST, DIGITS)

    def __len__(self) -> int:
        return int(self._counts.total_count)

    def add(self, milliseconds: float) -> None:
        """Count one latency."""
        self._counts.record_value(min(max(round(milliseconds * 1000), LOWEST), HIGHEST))

    def merge(self, other: Histogram) -> None:
        """Count all of `other`, too."""
        self._counts.add(other._counts)

    def percentile(self, percent: float, missing: int = 0) -> float:
        """The latency, in milliseconds, that `percent` of all requests did not exceed.

        `missing` more requests than were counted got no answer; they rank behind every answer, and where the
        percentile falls among them it is infinite. NaN where there is nothing at all.
        """
        total = len(self) + missing
        if total == 0:
            return math.nan
        rank = max(1, math.ceil(percent / 100 * total - 1e-9))
        if rank > len(self):
            return math.inf
        return float(self._counts.get_value_at_percentile(100 * rank / len(self))) / 1000

    @property
    def mean(self) -> float:
        """Milliseconds; NaN where there is nothing."""
        return float(self._counts.get_mean_value()) / 1000 if len(self) else math.nan

    def encode(self) -> str:
        """The histogram in HdrHistogram's own compressed format, base64, in microseconds."""
        return bytes(self._counts.encode()).decode("ascii")
