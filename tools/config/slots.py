"""What every section of a list of models has: [[channels]] and [[rankers]]."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tools.config.training import Section

Name = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,30}[a-z]$")]
"""Part of a Triton model's name: a release's name follows it."""


class ChannelSection(Section):
    """What every channel has."""

    name: Name | None = None
    """What the channel is called; by default its model."""
    quota: int = Field(500, ge=1, description="how many items it finds")
    weight: float = Field(1.0, gt=0, le=1000, description="of its ranks, where [merge] does not learn them")


class RankerSection(Section):
    """What every ranker has."""

    name: Name | None = None
    """What the ranker is called; by default its model."""
    weight: float = Field(1.0, gt=0, le=1000, description="in the average of several rankers")
    keep: int | None = Field(
        None,
        ge=1,
        description="a first look: only so many of the candidates go on to the rankers without `keep`",
    )
