"""[[rankers]]: the models that score candidates, and [blend]: how several become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator
from tritonrec_client.contract import Sizes

from tools.config.slots import RankerSection, name_of
from tools.config.training import Section, TrainingConfig

MAIN = "main"
"""The model of [rank] among the rankers; there is one, and it is called so."""


class MainRanker(RankerSection):
    """The ranker of [rank]: target attention, feature crosses and evidence; [compress] says in which form."""

    model: Literal["main"]
    name: Literal["main"] | None = None


class PointwiseRanker(RankerSection, TrainingConfig):
    """A ranker trained with binary cross-entropy on each candidate."""

    model: str
    epochs: int = Field(3, ge=1, le=1000)
    batch: int = Field(256, ge=1)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    negatives: int = Field(96, ge=1, description="candidates of an example that a step compares")
    width: int = Field(32, ge=4, le=1024, description="the width of item and user vectors")
    shrinkage: float = Field(
        0.5, gt=0, le=1, description="how much of its correction to the retrieval score it uses once trained"
    )


class LogisticRanker(PointwiseRanker):
    """Logistic regression over the retrieval score, ids, feature codes and crosses of them."""

    model: Literal["logistic"]
    learning_rate: float = Field(1e-2, gt=0, le=1)


class DeepRanker(PointwiseRanker):
    """What all deep rankers have; `dnn` has nothing else (Covington et al. 2016)."""

    hidden: int = Field(64, ge=4, le=4096, description="the width of the deep layers")


class DnnRanker(DeepRanker):
    """A deep network over the candidate, the mean of the history and the user."""

    model: Literal["dnn"]


class CrossRanker(DeepRanker):
    """Explicit feature crosses beside a deep network (DCN-v2, Wang et al. 2021)."""

    model: Literal["dcn_v2"]
    crosses: int = Field(2, ge=1, le=8, description="cross layers")


class TargetAttentionRanker(DeepRanker):
    """What of the history matters to each candidate (DIN, Zhou et al. 2018)."""

    model: Literal["target_attention"]
    heads: int = Field(4, ge=1, le=32)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> TargetAttentionRanker:
        if self.width % self.heads:
            raise ValueError(f"heads is {self.heads}; it must divide width, {self.width}")
        return self


class NeuMFRanker(DeepRanker):
    """Matrix factorisation and a deep network side by side (NeuMF, He et al. 2017)."""

    model: Literal["neumf"]


class LstmRanker(DeepRanker):
    """A recurrent network over the history, whose state meets each candidate."""

    model: Literal["lstm"]


RankerConfig = Annotated[
    MainRanker | LogisticRanker | DnnRanker | CrossRanker | TargetAttentionRanker | NeuMFRanker | LstmRanker,
    Field(discriminator="model"),
]


class BlendConfig(Section):
    """[blend]: how the scores of several rankers become one."""

    method: Literal["average", "stacked"] = "average"
    """average: their weighted mean; stacked: weights that are fitted to what came next."""


def check_rankers(rankers: Sequence[RankerSection], sizes: Sizes) -> None:
    """Raise ValueError where `rankers`, the list of [[rankers]], cannot be served one after the other.

    Names are unique. Rankers with `keep` have a first look: all of them keep as many, at least a page and
    fewer than there are candidates, and at least one ranker without `keep` orders what they keep. An empty
    list is right: the release has the one ranker of [rank].
    """
    names = [name_of(ranker) for ranker in rankers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"rankers: the name {twice[0]!r} is there twice; give each ranker a name of its own")
    keeps = {
        name: ranker.keep for name, ranker in zip(names, rankers, strict=True) if ranker.keep is not None
    }
    if not keeps:
        return
    if len(keeps) == len(names):
        raise ValueError(
            f"rankers: {', '.join(names)} have `keep`; at least one ranker without it must order what they"
            " keep"
        )
    if len(set(keeps.values())) > 1:
        found = ", ".join(f"{name}: {keep}" for name, keep in keeps.items())
        raise ValueError(f"rankers: keep differs ({found}); there is one first look, so it must be the same")
    for name, keep in keeps.items():
        if not sizes.results <= keep < sizes.candidates:
            raise ValueError(
                f"rankers: keep of {name} is {keep}; it must be at least contract.results, {sizes.results},"
                f" and less than contract.candidates, {sizes.candidates}"
            )
