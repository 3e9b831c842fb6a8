"""[[channels]]: the ways in which candidates are found, and [merge]: how their lists become one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tools.config.memory_channels import (
    ContentChannel,
    EaseChannel,
    ItemKnnChannel,
    PopularityChannel,
    UserKnnChannel,
)
from tools.config.neural_channels import InterestsChannel, RecurrentChannel, TwoTowersChannel
from tools.config.slots import ChannelSection
from tools.config.training import Section


class TransformerChannel(ChannelSection):
    """The query tower of [retrieve], whose keys say how it is trained."""

    model: Literal["transformer"]


ChannelConfig = Annotated[
    TransformerChannel
    | RecurrentChannel
    | InterestsChannel
    | TwoTowersChannel
    | ItemKnnChannel
    | EaseChannel
    | UserKnnChannel
    | ContentChannel
    | PopularityChannel,
    Field(discriminator="model"),
]


class MergeConfig(Section):
    """[merge]: how the channels' lists become one list of candidates."""

    method: Literal["learned", "reciprocal_rank"] = "learned"
    """learned: a log-linear model of ranks and scores, fitted to what came next; reciprocal_rank: the
    channels' weights ÷ (constant + rank), summed (Cormack et al. 2009)."""
    constant: float = Field(60.0, gt=0, le=10_000)
