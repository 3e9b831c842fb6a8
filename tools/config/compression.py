"""The section of a build's TOML file that says in which form the ranker is served."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from tools.config.training import Section

Variant = Literal["full", "int8", "pruned", "pruned-int8", "distilled", "distilled-int8"]
"""A model, the trained one or one made of it, and where it ends so, its layers in 8 bits."""


VARIANTS: tuple[Variant, ...] = get_args(Variant)


class StudentConfig(Section):
    """[compress.student]: a ranker that learns from the trained one; see `RankConfig` for its form."""

    width: int = Field(16, ge=4, le=1024)
    heads: int = Field(1, ge=1, le=32)
    crosses: int = Field(1, ge=0, le=8)
    hidden: int = Field(32, ge=4, le=4096)
    learning_rate: float = Field(3e-3, gt=0, le=1)

    @property
    def form(self) -> dict[str, int]:
        """Its fields that `RankConfig` has as well, but for training."""
        return self.model_dump(include={"width", "heads", "crosses", "hidden"})

    @model_validator(mode="after")
    def _heads_divide_width(self) -> StudentConfig:
        if self.width % self.heads:
            raise ValueError(f"heads is {self.heads}; it must divide width, {self.width}")
        return self


class CompressConfig(Section):
    """[compress]: the variant of the ranker that is served, and how the variants are made."""

    variant: Variant = "full"
    requests: int = Field(
        4096,
        ge=16,
        le=1_000_000,
        description="training requests that scales and smaller models are made from",
    )
    prune: float = Field(0.5, gt=0, lt=1, description="share of hidden units that pruning takes away")
    epochs: int = Field(2, ge=0, le=100, description="how often a smaller model goes through the requests")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="of a pruned model, which has learned before")
    student: StudentConfig = Field(default_factory=lambda: StudentConfig.model_validate({}))
    least_ratio: float = Field(
        0.95, gt=0, le=1, description="what the NDCG@10 ÷ that of the full model must reach, at its lower end"
    )
