"""The sections of channels that are neural networks over a user's history."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tools.config.slots import ChannelSection
from tools.config.training import TrainingConfig


class RecurrentChannel(ChannelSection, TrainingConfig):
    """A recurrent network over the history (GRU4Rec, Hidasi et al. 2016)."""

    model: Literal["gru", "lstm"]
    width: int = Field(64, ge=8, le=1024)


class InterestsChannel(ChannelSection, TrainingConfig):
    """Several interests by dynamic routing (MIND, Li et al. 2019)."""

    model: Literal["mind"]
    width: int = Field(64, ge=8, le=1024)
    interests: int = Field(4, ge=1, le=16)


class TwoTowersChannel(ChannelSection, TrainingConfig):
    """Two towers with a logistic head: σ(Wᵀ(f(u) ⊙ g(i)) + b)."""

    model: Literal["two_towers"]
    width: int = Field(64, ge=8, le=1024)
