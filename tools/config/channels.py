"""[[channels]]: the ways in which candidates are found, and [merge]: how their lists become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from tritonrec_client.contract import Sizes

from tools.config.memory_channels import (
    ContentChannel,
    EaseChannel,
    ItemKnnChannel,
    PopularityChannel,
    UserKnnChannel,
)
from tools.config.neural_channels import InterestsChannel, RecurrentChannel, TwoTowersChannel
from tools.config.slots import ChannelSection, name_of
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


def check_channels(channels: Sequence[ChannelSection], sizes: Sizes) -> None:
    """Raise ValueError where these `channels` cannot serve together."""
    names = [name_of(channel) for channel in channels]
    for channel, name in zip(channels, names, strict=True):
        if names.count(name) > 1:
            raise ValueError(f"two channels are called {name!r}; give one of them another `name`")
        if not sizes.results <= channel.quota <= sizes.candidates:
            raise ValueError(
                f"quota of the channel {name!r} is {channel.quota}; it must be from contract.results,"
                f" {sizes.results}, to contract.candidates, {sizes.candidates}"
            )
    if channels and [channel for channel in channels if isinstance(channel, TransformerChannel)] == []:
        raise ValueError(
            "channels has no transformer; one is needed: its item vectors also tell how alike items are"
        )
    if sum(isinstance(channel, TransformerChannel) for channel in channels) > 1:
        raise ValueError("channels has two transformers; there is one, that of [retrieve]")


class MergeConfig(Section):
    """[merge]: how the channels' lists become one list of candidates."""

    method: Literal["learned", "reciprocal_rank"] = "learned"
    """learned: a log-linear model of ranks and scores, fitted to what came next; reciprocal_rank: the
    channels' weights ÷ (constant + rank), summed (Cormack et al. 2009)."""
    constant: float = Field(60.0, gt=0, le=10_000)
