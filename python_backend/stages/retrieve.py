"""retrieve: the best K of all unseen items, exactly."""

from __future__ import annotations

from python_backend.graph import GraphStage


class Retrieve(GraphStage):
    """Query tower, scores of every item, seen items masked, top K, in one graph.

    Gives `candidate` int32 ``[B, K]``, best first, and `retrieval_score` float32 ``[B, K]``, the log
    probability of being the next item; places without a candidate hold item 0.
    """

    name = "retrieve"
