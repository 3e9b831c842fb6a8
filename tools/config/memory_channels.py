"""The sections of channels that look up what users did, or what items are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tools.config.slots import ChannelSection


class ItemKnnChannel(ChannelSection):
    """Items by the cosine of who met them (Sarwar et al. 2001)."""

    model: Literal["item_knn"]
    neighbours: int = Field(100, ge=1, description="how many cosines of an item are kept, the greatest")
    neighbours_of: Literal["candidate", "history"] = "candidate"
    """Whose neighbours are kept: a candidate is spoken for by those items of the history that are among its
    own (Deshpande & Karypis 2004), or it must be among those of the history's items, as in `implicit`."""
    shrinkage: float = Field(
        5.0, ge=0, description="added below the cosine's fraction, so that few users in common say little"
    )


class EaseChannel(ChannelSection):
    """A linear item-to-item model in closed form (EASE, Steck 2019)."""

    model: Literal["ease"]
    regularisation: float = Field(500.0, gt=0)
    neighbours: int = Field(
        400, ge=1, description="how many weights of an item are kept, the greatest by size"
    )
    whole_items: int = Field(
        2000, ge=0, description="up to so many items in the catalogue all weights are kept"
    )


class UserKnnChannel(ChannelSection):
    """What the most similar users met."""

    model: Literal["user_knn"]
    neighbours: int = Field(50, ge=1)
    power: float = Field(
        2.5, gt=0, le=10, description="a vote counts as much as the cosine to this power (Breese et al. 1998)"
    )
    users: int = Field(
        100_000, ge=1, description="at most so many users are stored: those who did something last"
    )


class ContentChannel(ChannelSection):
    """Items whose texts are like those of the history."""

    model: Literal["content"]
    columns: tuple[str, ...] | None = None
    """Names of the features whose values are read after the title; by default all."""
    width: int = Field(
        128, ge=2, le=384, description="principal axes of the texts' vectors that are kept; 384 keeps all"
    )


class PopularityChannel(ChannelSection):
    """What most people turn to, the newer the more."""

    model: Literal["popularity"]
    half_life_days: float = Field(30.0, gt=0)
