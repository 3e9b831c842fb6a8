"""blend: the scores of several rankers as one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from tritonrec_client.contract import CANDIDATE, RANK_SCORE

from python_backend.item_index import PADDING_SCORE
from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, Stage

BLEND = "blend.json"
"""``{"weights": {ranker: weight, …}, "bias": …}``"""


class Blend(Stage):
    """A weighted sum of the rankers' logits, plus a bias.

    Logits, not standardised scores: they say how sure a ranker is of a list, which is what the probabilities
    and the diversity of `rerank` rest on. With weights that add up to 1 it is the mean of the log odds.

    Takes `candidate` int32 ``[B, K]`` and for each ranker ``rank_score_<ranker>`` float32 ``[B, K]``; gives
    `rank_score` float32 ``[B, K]``, the lowest score at places without a candidate.
    """

    name = "blend"

    def __init__(self, rankers: Sequence[str], weights: Sequence[float], bias: float = 0.0) -> None:
        """The `rankers` by name with the weight of each. Raises ValueError where those do not fit."""
        if not rankers or len(rankers) != len(weights) or len(set(rankers)) != len(rankers):
            raise ValueError(
                f"rankers are {list(rankers)} and weights {list(weights)}; there must be one weight for each"
                " of at least one ranker, by different names"
            )
        if not all(math.isfinite(number) for number in (*weights, bias)):
            raise ValueError(f"weights are {list(weights)} and bias {bias}; they must be finite")
        self.rankers = tuple(rankers)
        self.weights = np.asarray(weights, dtype=np.float32)
        self.bias = np.float32(bias)

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """The stage of `release`; there are no options. Raises what `open` raises."""
        return cls.open(release.artifacts)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The stage whose file is in `folder`. Raises FileNotFoundError and ValueError."""
        path = folder / BLEND
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            weights = {str(name): float(weight) for name, weight in content["weights"].items()}
            return cls(list(weights), list(weights.values()), float(content["bias"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not the weights of a blend ({error!r})") from error

    def write(self, folder: Path) -> None:
        """Write the stage's file into the existing `folder`."""
        weights = dict(zip(self.rankers, map(float, self.weights), strict=True))
        content = {"weights": weights, "bias": float(self.bias)}
        (folder / BLEND).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        candidate = inputs[CANDIDATE.name]
        # One ranker after the other, so that a row's sum does not depend on how many rows there are.
        total = np.full(candidate.shape, self.bias, dtype=np.float32)
        for ranker, weight in zip(self.rankers, self.weights, strict=True):
            total += weight * inputs[f"{RANK_SCORE.name}_{ranker}"]
        return {RANK_SCORE.name: np.where(candidate == 0, np.float32(PADDING_SCORE), total)}
