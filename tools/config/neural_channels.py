"""The sections of channels that are neural networks over a user's history."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tools.config.slots import ChannelSection
from tools.config.training import TrainingConfig


class NeuralSection(ChannelSection, TrainingConfig):
    """What all of them have."""

    width: int = Field(64, ge=8, le=1024, description="of item vectors and queries")
    full_softmax_items: int = Field(
        20_000, ge=1, description="the loss goes over the whole catalogue up to this many items"
    )
    negatives: int = Field(4096, ge=2, description="otherwise: items that a batch is told from")
    feature_dropout: float = Field(
        0.1, ge=0, le=1, description="share of training users whose features are hidden, as of unknown ones"
    )


class RecurrentChannel(NeuralSection):
    """A recurrent network over the history (GRU4Rec, Hidasi et al. 2016)."""

    model: Literal["gru", "lstm"]
    epochs: int = Field(15, ge=1, le=1000)
    hidden: int = Field(128, ge=8, le=4096, description="the width of the network's state")


class InterestsChannel(NeuralSection):
    """Several interests by dynamic routing (MIND, Li et al. 2019)."""

    model: Literal["mind"]
    epochs: int = Field(8, ge=1, le=1000)
    batch: int = Field(32, ge=1, description="rows of a training batch")
    learning_rate: float = Field(4e-3, gt=0, le=1)
    # Every item has a score for each interest, which a whole catalogue is too long for.
    full_softmax_items: int = Field(1000, ge=1, description="the loss goes over all items up to so many")
    negatives: int = Field(256, ge=2, description="otherwise: items that a batch is told from")
    interests: int = Field(4, ge=1, le=16, description="at most; a user with n items has log2(n)")
    iterations: int = Field(3, ge=1, le=10, description="of the routing")
    sharpness: float = Field(
        1.0, gt=0, le=100, description="how much training favours the interest that is next to the target"
    )


class TwoTowersChannel(NeuralSection):
    """Two towers with a logistic head: σ(Wᵀ(f(u) ⊙ g(i)) + b)."""

    model: Literal["two_towers"]
    epochs: int = Field(20, ge=1, le=1000)
    hidden: int = Field(128, ge=8, le=4096, description="the width of the towers' inner layers")
    negatives: int = Field(1024, ge=2, description="items that a batch is told from")
    summaries: int = Field(4, ge=1, le=64, description="averages of the history that the user tower sees")
