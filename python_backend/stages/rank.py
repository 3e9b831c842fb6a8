"""rank: a score for each candidate, seen together with the user and the history."""

from __future__ import annotations

from python_backend.graph import GraphStage


class Rank(GraphStage):
    """Target attention, feature crosses and the retrieval score, in one graph.

    Gives `rank_score` float32 ``[B, K]``: logits whose softmax over the candidates is each one's
    probability of being the next item. Places without a candidate get the lowest score.
    """

    name = "rank"
