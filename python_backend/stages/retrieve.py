"""retrieve: the best K of all unseen items, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from python_backend.exact_search import ExactSearch
from python_backend.graph import Graph, GraphStage, threads_of
from python_backend.item_index import INDEX, ItemIndex
from python_backend.release import Release
from python_backend.stages.base import Array, Arrays

QUERY_GRAPH = "retrieve_query.onnx"


class Retrieve(GraphStage):
    """Query tower, scores of every item, seen items masked, top K.

    Of a small catalogue all of it is one graph. A release with a large one has an index instead, which is
    searched for the query that a smaller graph makes; the list is the same.

    Gives `candidate` int32 ``[B, K]``, best first, and `retrieval_score` float32 ``[B, K]``, the log
    probability of being the next item; places without a candidate hold item 0.
    """

    name = "retrieve"

    def __init__(self, graph: Graph, search: ExactSearch | None = None) -> None:
        super().__init__(graph)
        self._search = search

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """`options`: ``threads`` of ONNX Runtime and of the search, by default 1.

        Raises what `GraphStage.load` raises, and MissingLibrary where the release has an index and numba is
        not installed.
        """
        if not (release.artifacts / INDEX).is_dir():
            return super().load(release, options)
        threads = threads_of(options)
        index = ItemIndex.open(release.artifacts / INDEX)
        search = ExactSearch(index, candidates=release.sizes.candidates, threads=threads)
        return cls(Graph(release.artifacts / QUERY_GRAPH, threads=threads), search)

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        if self._search is None:
            return self._graph(inputs)
        vectors = self._search.index.vectors[inputs["history"]]
        query = self._graph({**inputs, "history_vectors": vectors})["query"]
        candidate, score = self._search(query, inputs["seen"])
        return {"candidate": candidate, "retrieval_score": score}
