"""[gates]: how good a release has to be, as measured, before it may be served."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tools.config.training import Section


class Gate(Section):
    """What one figure has to reach. Where both demands are made both count; without any, all pass."""

    least: Annotated[float, Field(ge=0, le=1)] | None = None
    """The figure itself."""
    least_ratio: Annotated[float, Field(gt=0, le=2)] | None = None
    """The lower end of the interval of the figure ÷ that of the active release."""


class GatesConfig(Section):
    """[gates]: the demands on each figure of a release, and how sure one has to be.

    Accuracy is that of the page at diversity 0, coverage that of the page at the default. The defaults let a
    release pass that is as good as the active one, and stop one that is broken: with some 1,000 test users
    the paired interval of two good models reaches 6 to 10 % to either side, and training again moves the
    ratio itself by some per cent, so a `least_ratio` of 0.9 would refuse many releases that are not worse.
    Coverage has no interval.
    """

    confidence: float = Field(0.95, ge=0.5, lt=1, description="of the intervals of ratios")
    resamples: int = Field(2000, ge=100, le=100_000, description="bootstrap samples of users")
    ndcg_10: Gate = Gate(least_ratio=0.8)
    ndcg_20: Gate = Gate()
    hit_rate_10: Gate = Gate()
    hit_rate_20: Gate = Gate()
    coverage_20: Gate = Gate(least_ratio=0.5)

    @property
    def demands(self) -> dict[str, Gate]:
        """The gates that demand something, by the name of their figure."""
        return {name: gate for name, gate in self if isinstance(gate, Gate) and gate != Gate()}
