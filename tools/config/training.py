"""The sections of a build's TOML file that say what is trained, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from tritonrec_client.contract import DEFAULT_DIVERSITY


class Section(BaseModel):
    """A section that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingConfig(Section):
    """What every training run has."""

    epochs: int = Field(30, ge=1, le=1000)
    batch: int = Field(64, ge=1, description="rows of a training batch")
    learning_rate: float = Field(2e-3, gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0, le=1)
    dropout: float = Field(0.2, ge=0, lt=1)


class DistilConfig(Section):
    """[retrieve.distil]: learning from a larger model, too; tools/train_large.py trains one."""

    teacher: Path = Field(description="the model.pt of a large model; relative to the working directory")
    weight: float = Field(0.5, gt=0, le=1, description="of the teacher's word; the rest is what came next")
    temperature: float = Field(
        2.0, ge=0.1, le=100, description="what logits are divided by: above 1, unlikely items count for more"
    )


class DistributedConfig(Section):
    """[distributed]: how tools/train_large.py uses its processes.

    But for `clip`, what is trained is the same up to rounding.
    """

    accumulate: int = Field(
        1, ge=1, le=4096, description="parts of its share of a batch that a process takes one after another"
    )
    clip: float = Field(1.0, gt=0, description="the norm that a step's gradients are clipped to")
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="of products of matrices; auto: bf16 on CUDA, float32 elsewhere"
    )
    recompute: bool = Field(
        True, description="compute the inside of blocks again for the gradients instead of keeping it"
    )
    save_every: int = Field(500, ge=1, description="steps between checkpoints")
    log_every: int = Field(20, ge=1, description="steps between lines of the log")


class RobustConfig(Section):
    """[retrieve.robust]: training that makes the retriever robust; with zeros it is left as it is."""

    adversarial_epsilon: float = Field(
        0.0, ge=0, le=100, description="the length of the worst step that is added to each item vector"
    )
    adversarial_weight: float = Field(0.0, ge=0, le=100, description="of the loss with those steps")
    adversarial_from_epoch: int = Field(
        0, ge=0, description="the first epoch with them, counted from 1; epochs before it train as usual"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each answer that is spread over the whole catalogue"
    )
    history_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the histories' items that training hides, drawn for each step"
    )

    @model_validator(mode="after")
    def _adversarial_keys_belong_together(self) -> RobustConfig:
        if (self.adversarial_epsilon > 0) != (self.adversarial_weight > 0):
            raise ValueError(
                f"adversarial_epsilon is {self.adversarial_epsilon:g} and adversarial_weight is"
                f" {self.adversarial_weight:g}; allowed: both above 0, or both 0"
            )
        return self


class RetrieveConfig(TrainingConfig):
    """[retrieve]: the query tower, its item vectors and its training."""

    width: int = Field(64, ge=8, le=1024, description="d: the width of item vectors and hidden states")
    blocks: int = Field(2, ge=1, le=32)
    heads: int = Field(2, ge=1, le=32)
    loss: Literal["auto", "full", "sampled"] = "auto"
    full_softmax_items: int = Field(
        20_000, ge=1, description="`auto` uses the whole catalogue up to this many items"
    )
    negatives: int = Field(4096, ge=2, description="sampled softmax: negatives that a batch shares")
    feature_dropout: float = Field(
        0.1, ge=0, le=1, description="share of training users whose features are hidden, as of unknown ones"
    )
    modality_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of items whose vectors (image, …) are hidden, drawn for each step"
    )

    distil: DistilConfig | None = None
    robust: RobustConfig = Field(default_factory=lambda: RobustConfig.model_validate({}))

    @model_validator(mode="after")
    def _heads_divide_width(self) -> RetrieveConfig:
        if self.width % self.heads:
            raise ValueError(f"heads is {self.heads}; it must divide width, {self.width}")
        return self

    @model_validator(mode="after")
    def _adversary_is_met(self) -> RetrieveConfig:
        if self.robust.adversarial_weight and self.robust.adversarial_from_epoch > self.epochs:
            raise ValueError(
                f"robust.adversarial_from_epoch is {self.robust.adversarial_from_epoch}; allowed: up to"
                f" epochs, {self.epochs}"
            )
        return self


class RankConfig(TrainingConfig):
    """[rank]: the ranker and its training."""

    epochs: int = Field(3, ge=1, le=1000)
    batch: int = Field(256, ge=1, description="training examples of a batch")
    learning_rate: float = Field(1e-3, gt=0, le=1)
    width: int = Field(32, ge=4, le=1024, description="the width of item and user vectors")
    heads: int = Field(4, ge=1, le=32)
    crosses: int = Field(2, ge=0, le=8, description="cross layers")
    hidden: int = Field(64, ge=4, le=4096, description="the width of the deep layers")
    negatives: int = Field(96, ge=1, description="candidates that an example is told from")
    newest: float = Field(0.3, gt=0, lt=1, description="share of each user's events to learn from")
    examples: int = Field(100_000, ge=1, description="at most so many training examples")
    neighbours: int = Field(
        256, ge=0, description="items that each item's evidence reaches; 0 does without evidence"
    )
    evidence: float = Field(
        0.3, ge=0, le=10, description="what a standard deviation of evidence adds to a logit"
    )
    modality_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of items whose vectors (image, …) are hidden, drawn for each step"
    )
    shrinkage: float = Field(
        0.5, gt=0, le=1, description="how much of its correction to the retrieval score a trained ranker uses"
    )


class ExplorationConfig(Section):
    """[rerank.exploration]: places of a page that are drawn, to learn what becomes of an item there."""

    places: int = Field(0, ge=0, description="so many of a page's last places are drawn; 0 draws none")
    method: Literal["epsilon", "thompson"] = Field(
        "epsilon",
        description="epsilon: the best item, or now and then one that is drawn from the pool; thompson: the"
        " item whose draw from the posterior of its click rate is the highest",
    )
    epsilon: float = Field(0.1, gt=0, le=1, description="how often `epsilon` draws")
    draw: Literal["inverse", "smoothed", "uniform"] = Field(
        "inverse",
        description="what `epsilon` draws in proportion to: 1 / (1 + popularity), popularity to the power of"
        " 0.75, or nothing",
    )
    pool: int = Field(20, ge=2, le=1000, description="so many of the best items for a place can be drawn")
    prior_views: float = Field(
        10.0, gt=0, le=1e6, description="how many views the prior of an item's click rate is worth"
    )


class RerankConfig(Section):
    """[rerank]: what a diversity of 1 does to an item's logit."""

    similarity_weight: float = Field(
        4.0, ge=0, le=100, description="times its greatest cosine similarity to an item above it"
    )
    lift_weight: float = Field(
        1 / DEFAULT_DIVERSITY,
        ge=0,
        le=100,
        description="times its lift; by default the whole lift counts at the default diversity",
    )
    exposure: float = Field(
        0.25,
        ge=0,
        le=1,
        description="items are lifted to this share of the places that they would have if all had as many",
    )
    exploration: ExplorationConfig = Field(default_factory=lambda: ExplorationConfig.model_validate({}))
