"""The sections of channels that look up what users did, or what items are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tools.config.slots import ChannelSection


class ItemKnnChannel(ChannelSection):
    """Items by the cosine of who met them (Sarwar et al. 2001)."""

    model: Literal["item_knn"]
    neighbours: int = Field(200, ge=1)


class EaseChannel(ChannelSection):
    """A linear item-to-item model in closed form (EASE, Steck 2019)."""

    model: Literal["ease"]
    regularisation: float = Field(500.0, gt=0)


class UserKnnChannel(ChannelSection):
    """What the most similar users met."""

    model: Literal["user_knn"]
    neighbours: int = Field(100, ge=1)


class ContentChannel(ChannelSection):
    """Items whose texts are like those of the history."""

    model: Literal["content"]


class PopularityChannel(ChannelSection):
    """What most people turn to, the newer the more."""

    model: Literal["popularity"]
    half_life_days: float = Field(30.0, gt=0)
