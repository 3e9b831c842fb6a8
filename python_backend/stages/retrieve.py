"""retrieve: the best K of all unseen items, exactly, as one channel sees them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Self

from python_backend.channels.base import Channel
from python_backend.exact_search import ExactSearch
from python_backend.graph import Graph, threads_of
from python_backend.item_index import INDEX, ItemIndex
from python_backend.release import Release
from python_backend.several_queries import search_each
from python_backend.stages.base import Array, Arrays, Stage

QUERY_GRAPH = "retrieve_query.onnx"
CHANNEL = "channel.json"
"""Says of which kind a channel is that is no graph: ``{"kind": …}``."""

CHANNEL_CLASSES = {
    "item_neighbours": "python_backend.channels.item_neighbours:ItemNeighbours",
    "user_neighbours": "python_backend.channels.user_neighbours:UserNeighbours",
    "popularity": "python_backend.channels.popularity:Popularity",
    "item_vectors": "python_backend.channels.item_vectors:ItemVectors",
}
"""Where each kind of channel is; imported by name, so that a process loads only its own libraries."""


class Retrieve(Stage):
    """Scores of every item, seen items masked, top K.

    Of a small catalogue all of it is one graph. A release with a large one has an index instead, which is
    searched for the query that a smaller graph makes; the list is the same. Channels of other kinds look
    things up.

    Gives `candidate` int32 ``[B, K]``, best first, and `retrieval_score` float32 ``[B, K]``, which of the
    query tower is the log probability of being the next item; places without a candidate hold item 0.
    """

    name = "retrieve"

    def __init__(
        self, graph: Graph | None = None, search: ExactSearch | None = None, channel: Channel | None = None
    ) -> None:
        self._graph, self._search, self._channel = graph, search, channel

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """`options`: ``threads`` of ONNX Runtime and of the search, by default 1.

        Raises what `open` raises, and ValueError on another number of threads than 1 or more.
        """
        return cls.open(release.artifacts, candidates=release.sizes.candidates, threads=threads_of(options))

    @classmethod
    def open(cls, folder: Path, *, candidates: int, threads: int = 1) -> Self:
        """What is served from the files in `folder`, giving `candidates` items.

        Raises FileNotFoundError, ValueError, and MissingLibrary where there is an index and numba is not
        installed.
        """
        if (folder / CHANNEL).is_file():
            kind = json.loads((folder / CHANNEL).read_text(encoding="utf-8"))["kind"]
            if kind not in CHANNEL_CLASSES:
                raise ValueError(f"{folder / CHANNEL}: kind is {kind!r}; it must be one of {CHANNEL_CLASSES}")
            module, _, name = CHANNEL_CLASSES[kind].partition(":")
            channel: type[Channel] = getattr(importlib.import_module(module), name)
            return cls(channel=channel.open(folder, candidates=candidates, threads=threads))
        if (folder / INDEX).is_dir():
            search = ExactSearch(ItemIndex.open(folder / INDEX), candidates=candidates, threads=threads)
            return cls(Graph(folder / QUERY_GRAPH, threads=threads), search)
        return cls(Graph(folder / f"{cls.name}.onnx", threads=threads))

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        if self._channel is not None:
            candidate, score = self._channel(inputs)
            return {"candidate": candidate, "retrieval_score": score}
        assert self._graph is not None
        if self._search is None:
            return self._graph(inputs)
        vectors = self._search.index.vectors[inputs["history"]]
        query = self._graph({**inputs, "history_vectors": vectors})["query"]
        find = self._search if query.ndim == 2 else partial(search_each, self._search)
        candidate, score = find(query, inputs["seen"])
        return {"candidate": candidate, "retrieval_score": score}
