"""What every section of a list of models has: [[channels]] and [[rankers]]."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tools.config.training import Section

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}[a-z0-9]$")]
"""Part of a Triton model's name: a release's name follows it."""


class Slot(Section):
    """A model in a list of models."""

    name: Name | None = None
    """What it is called; by default its model."""


class ChannelSection(Slot):
    """What every channel has."""

    quota: int = Field(500, ge=1, description="how many items it finds")
    weight: float = Field(1.0, gt=0, le=1000, description="of its ranks, where [merge] does not learn them")


class RankerSection(Slot):
    """What every ranker has."""

    weight: float = Field(1.0, gt=0, le=1000, description="in the average of several rankers")
    keep: int | None = Field(
        None,
        ge=1,
        description="a first look: only so many of the candidates go on to the rankers without `keep`",
    )


def name_of(slot: Slot) -> str:
    """What a channel or a ranker is called."""
    return slot.name or str(getattr(slot, "model", ""))
