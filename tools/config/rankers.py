"""[[rankers]]: the models that score candidates, and [blend]: how several become one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tools.config.slots import RankerSection
from tools.config.training import Section, TrainingConfig


class MainRanker(RankerSection):
    """The ranker of [rank]: target attention, feature crosses and evidence; [compress] says in which form."""

    model: Literal["main"]


class PointwiseRanker(RankerSection, TrainingConfig):
    """A ranker trained with binary cross-entropy on each candidate."""

    model: Literal["logistic", "dnn", "dcn_v2", "target_attention", "neumf", "lstm"]
    epochs: int = Field(3, ge=1, le=1000)
    batch: int = Field(256, ge=1)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    width: int = Field(32, ge=4, le=1024)


RankerConfig = Annotated[MainRanker | PointwiseRanker, Field(discriminator="model")]


class BlendConfig(Section):
    """[blend]: how the scores of several rankers become one."""

    method: Literal["average", "stacked"] = "average"
    """average: their weighted mean; stacked: weights that are fitted to what came next."""
