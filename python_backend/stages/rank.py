"""rank: a score for each candidate, seen together with the user and the history."""

from __future__ import annotations

import numpy as np

from python_backend.graph import GraphStage
from python_backend.stages.base import Array, Arrays

ROWS_AT_ONCE = 4
"""Users whose tensors fit into a core's cache: of 16 at once each takes a fifth more time, of 64 a third."""


class Rank(GraphStage):
    """Target attention, feature crosses and the retrieval score, in one graph.

    Gives `rank_score` float32 ``[B, K]``: logits whose softmax over the candidates is each one's
    probability of being the next item. Places without a candidate get the lowest score.
    """

    name = "rank"

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        rows = len(inputs["candidate"])
        if rows <= ROWS_AT_ONCE:
            return super().__call__(inputs)
        parts = [
            super(Rank, self).__call__(
                {name: array[begin : begin + ROWS_AT_ONCE] for name, array in inputs.items()}
            )
            for begin in range(0, rows, ROWS_AT_ONCE)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
