"""The retriever of a large catalogue as it is served: an index, and a graph that makes its queries."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from tritonrec_client.contract import MODELS, Sizes

from python_backend.exact_search import MissingLibrary
from python_backend.graph import Graph
from python_backend.item_index import INDEX
from python_backend.stages.retrieve import QUERY_GRAPH, Retrieve
from tools.checks import CheckFailed
from tools.training.export import (
    FoldedRetrieveGraph,
    RetrieveGraph,
    check_answers,
    check_graph,
    export_graph,
    made_up_inputs,
    write_onnx,
)
from tools.training.features import Features
from tools.training.folded_tower import FoldedTower
from tools.training.item_search import INDEX_FROM, index_of
from tools.training.retriever import Retriever

NORMALISER = 0.01
"""How far the logarithm of all probabilities' sum may be off, which 8-bit codes add to: the same for all
items of a row, so no list depends on it."""


class QueryGraph(nn.Module):
    """What the tower says beside an index, spelled out; `FoldedTower` says the same, and is exported."""

    def __init__(self, retriever: Retriever) -> None:
        super().__init__()
        self.tower = retriever.tower

    def forward(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        """`query` float32 ``[B, d]``; `history_vectors` float32 ``[B, L, d]`` are those of `history`."""
        query: Tensor = self.tower.newest(user_features, history, history_vectors)
        return query


def export_retrieve(
    retriever: Retriever, features: Features, sizes: Sizes, folder: Path, *, index_from: int = INDEX_FROM
) -> None:
    """Write what `retrieve` needs into `folder`, a release's artifacts or a channel's among them; prove it.

    Up to `index_from` items that is one graph. Otherwise it is an index and the graph of the queries, which
    are held against the one graph in PyTorch. Raises GraphMismatch where they answer differently, and
    CheckFailed where a library is missing.
    """
    whole = RetrieveGraph(retriever, sizes).eval()
    if len(features.items) - 1 < index_from:
        folded = FoldedRetrieveGraph(retriever, sizes)
        export_graph(folded, "retrieve", features, sizes, folder / "retrieve.onnx", reference=whole)
        return
    index = index_of(retriever)
    index.write(folder / INDEX)
    query, path = QueryGraph(retriever).eval(), folder / QUERY_GRAPH
    requests = {rows: made_up_inputs("retrieve", features, sizes, rows=rows) for rows in (1, 3, 5)}
    asked = {
        rows: {
            "user_features": inputs["user_features"],
            "history": inputs["history"],
            "history_vectors": index.vectors[inputs["history"]],
        }
        for rows, inputs in requests.items()
    }
    write_onnx(FoldedTower(retriever.tower), asked[3], ["query"], path)
    try:
        stage = Retrieve.open(folder, candidates=sizes.candidates, threads=torch.get_num_threads())
    except MissingLibrary as error:
        raise CheckFailed(str(error)) from error
    for rows in (1, 5):
        check_graph(query, Graph(path), asked[rows])
        inputs = {tensor.name: requests[rows][tensor.name] for tensor in MODELS["retrieve"].inputs}
        check_answers(whole, stage(inputs), inputs, normaliser=NORMALISER)
