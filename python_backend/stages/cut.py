"""cut: what a light ranker leaves for the heavy ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from tritonrec_client.contract import CANDIDATE, CANDIDATE_CHANNEL, RANK_SCORE, RETRIEVAL_SCORE

from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, Stage

CUT = (CANDIDATE, RETRIEVAL_SCORE, RANK_SCORE, CANDIDATE_CHANNEL)
"""What is cut, each where it is among the inputs."""


class Cut(Stage):
    """The K′ candidates that have the highest rank score, best first; of equal ones the earlier comes first.

    Takes `candidate` int32, `retrieval_score` float32 and `rank_score` float32 of the light ranker, each
    ``[B, K]``, and `candidate_channel` int32 ``[B, K]`` where there are channels; gives the same of those
    that are kept, ``[B, K′]``. Padding comes after all candidates.
    """

    name = "cut"

    def __init__(self, keep: int) -> None:
        """`keep` is K′. Raises ValueError where it is less than 1."""
        if keep < 1:
            raise ValueError(f"keep is {keep}; it must be at least 1")
        self.keep = keep

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """A stage that keeps as many candidates as `release` says that it gives; there are no options."""
        return cls(release.sizes.candidates)

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        candidate, score = inputs[CANDIDATE.name], inputs[RANK_SCORE.name]
        if candidate.shape[1] < self.keep:
            raise ValueError(f"{candidate.shape[1]} candidates; there must be at least {self.keep} to keep")
        # Sorted by both keys: padding is last whatever its score says.
        order = np.lexsort((-score, candidate == 0), axis=1)[:, : self.keep]
        return {
            tensor.name: np.take_along_axis(inputs[tensor.name], order, axis=1)
            for tensor in CUT
            if tensor.name in inputs
        }
