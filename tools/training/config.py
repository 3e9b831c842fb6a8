"""The sections of a build's TOML file that say what is trained, and how."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RetrieveConfig(Section):
    """[retrieve]: the query tower and its training."""


class RankConfig(Section):
    """[rank]: the ranker and its training."""


class RerankConfig(Section):
    """[rerank]: what the last stage does by default."""
