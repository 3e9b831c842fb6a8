"""Service level objectives as people write them, p99=30ms,errors=0, and whether a run held them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tools.load.recording import RECOMMEND, RECORD_EVENT, Tally

KINDS = (RECOMMEND, RECORD_EVENT)
ALLOWED = (
    "limits are p50=…, p99=…, p99.9=…, max=… or mean=… with ms or s, and errors=… or skipped=… with a number"
    f" or a percentage, such as p99=30ms,errors=0; one for {RECORD_EVENT} begins with {RECORD_EVENT}:"
)
_UNITS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1000.0}


class SloError(ValueError):
    """A text that is no objective; the message says what is wrong and what is allowed."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: the most that `metric` of `kind` may be.

    `metric` is p99 and its like, max or mean, in milliseconds, or errors or skipped, which are counts or,
    where `is_share`, shares of the arrivals.
    """

    text: str
    kind: str
    metric: str
    most: float
    is_share: bool = False

    def measure(self, tally: Tally) -> float:
        """What `tally` has of it.

        A request that failed or was skipped counts as slower than every answer, so that refusing requests
        makes no percentile better.
        """
        if self.metric in ("errors", "skipped"):
            count = tally.failed if self.metric == "errors" else tally.skipped
            return count / max(1, tally.arrivals) if self.is_share else float(count)
        missing = tally.failed + tally.skipped
        if self.metric == "mean":
            return math.inf if missing else tally.latency.mean
        percent = 100.0 if self.metric == "max" else float(self.metric[1:])
        return tally.latency.percentile(percent, missing)

    def write(self, value: float) -> str:
        """`value` of this metric with its unit."""
        if self.metric in ("errors", "skipped"):
            return f"{100 * value:.3g} %" if self.is_share else f"{value:.0f}"
        if math.isinf(value):
            return "no answer"
        return "nothing measured" if math.isnan(value) else f"{value:.2f} ms"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit and what was measured; `holds` is False where nothing was."""

    limit: Limit
    measured: float

    @property
    def holds(self) -> bool:
        return self.measured <= self.limit.most

    def __str__(self) -> str:
        sign = "held" if self.holds else "MISSED"
        return f"{self.limit.text}: {sign}, {self.limit.write(self.measured)}"


@dataclass(frozen=True, slots=True)
class Slo:
    """Several limits, all of which must hold."""

    limits: tuple[Limit, ...]

    @classmethod
    def parse(cls, text: str) -> Slo:
        """The objectives in `text`, separated by commas. Raises SloError.

        Where nothing is said about them, no arrival may be skipped: a generator that does not keep its
        schedule measures an easier load than it was asked for.
        """
        limits = [_limit(part.strip()) for part in text.split(",") if part.strip()]
        if not limits:
            raise SloError(f"SLO: found nothing in {text!r}; {ALLOWED}")
        names = [(limit.kind, limit.metric) for limit in limits]
        if twice := [name for name in names if names.count(name) > 1]:
            raise SloError(f"SLO: {twice[0][1]} is limited twice in {text!r}")
        if "skipped" not in {limit.metric for limit in limits}:
            limits.append(Limit("skipped=0", RECOMMEND, "skipped", 0.0))
        return cls(tuple(limits))

    def judge(self, tallies: dict[str, Tally]) -> list[Verdict]:
        """A verdict per limit, from what was counted per kind of request."""
        return [Verdict(limit, limit.measure(tallies.get(limit.kind, Tally()))) for limit in self.limits]

    def __str__(self) -> str:
        return ",".join(limit.text for limit in self.limits)


def _limit(text: str) -> Limit:
    match = re.fullmatch(r"(?:(\w+):)?\s*([\w.]+)\s*=\s*([\d.]+)\s*(\S*)", text)
    if match is None:
        raise SloError(f"SLO: found {text!r}; {ALLOWED}")
    kind, metric, number, unit = match.groups()
    if (kind or RECOMMEND) not in KINDS:
        raise SloError(f"SLO: found {kind!r} in {text!r}; allowed before the colon: {' or '.join(KINDS)}")
    try:
        most = float(number)
    except ValueError:
        raise SloError(f"SLO: found {number!r} in {text!r}; that is no number") from None
    if metric in ("errors", "skipped"):
        if unit not in ("", "%"):
            raise SloError(f"SLO: found the unit {unit!r} in {text!r}; {metric} takes a count or %")
        most = most / 100 if unit else most
        return Limit(text, kind or RECOMMEND, metric, most, is_share=bool(unit))
    percentile = re.fullmatch(r"p(\d+(?:\.\d+)?)", metric)
    if metric not in ("max", "mean") and not (percentile and 0 < float(percentile[1]) <= 100):
        raise SloError(f"SLO: found {metric!r} in {text!r}; {ALLOWED}")
    if unit not in _UNITS:
        found = f"the unit {unit!r}" if unit else "no unit"
        raise SloError(f"SLO: found {found} in {text!r}; {metric} takes us, ms or s")
    return Limit(text, kind or RECOMMEND, metric, most * _UNITS[unit])
