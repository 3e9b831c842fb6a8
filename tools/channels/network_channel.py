"""A trained network as a channel: written as one graph, or as an index and the graph of its queries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from tritonrec_client.contract import MODELS, Sizes

from python_backend.exact_search import MissingLibrary
from python_backend.graph import Graph
from python_backend.item_index import INDEX, PADDING_SCORE, ItemIndex
from python_backend.stages.retrieve import QUERY_GRAPH, Retrieve
from tools.channels.history_network import HistoryNetwork
from tools.checks import CheckFailed
from tools.training.export import check_answers, check_graph, export_graph, made_up_inputs, write_onnx
from tools.training.features import Features
from tools.training.index_export import NORMALISER
from tools.training.item_search import INDEX_FROM


@dataclass(frozen=True)
class NetworkChannel:
    """A trained `network`, and the features whose codes it reads."""

    network: HistoryNetwork
    features: Features

    def write(self, folder: Path, sizes: Sizes, *, index_from: int = INDEX_FROM) -> None:
        """Write what `retrieve` serves into the existing, empty `folder`, and prove it.

        Up to `index_from` items that is one graph; otherwise an index and the graph of the queries, which
        are held against the one graph in PyTorch. Raises GraphMismatch where they answer differently, and
        CheckFailed where a library is missing.
        """
        whole = ListGraph(self.network, sizes.candidates).eval()
        if len(self.features.items) - 1 < index_from:
            export_graph(whole, "retrieve", self.features, sizes, folder / f"{Retrieve.name}.onnx")
            return
        index = ItemIndex.of(whole.vectors.numpy(), self.network.biases().detach().numpy())
        index.write(folder / INDEX)
        query = QueryGraph(self.network).eval()
        requests = {rows: made_up_inputs("retrieve", self.features, sizes, rows=rows) for rows in (1, 3, 5)}
        asked = {
            rows: {
                "user_features": inputs["user_features"],
                "history": inputs["history"],
                "history_vectors": index.vectors[inputs["history"]],
            }
            for rows, inputs in requests.items()
        }
        write_onnx(query, asked[3], ["query"], folder / QUERY_GRAPH)
        try:
            stage = Retrieve.open(folder, candidates=sizes.candidates, threads=torch.get_num_threads())
        except MissingLibrary as error:
            raise CheckFailed(str(error)) from error
        for rows in (1, 5):
            check_graph(query, Graph(folder / QUERY_GRAPH), asked[rows])
            inputs = {tensor.name: requests[rows][tensor.name] for tensor in MODELS["retrieve"].inputs}
            check_answers(whole, stage(inputs), inputs, normaliser=NORMALISER)


class ListGraph(nn.Module):
    """A network as it is served: item vectors are constants, seen items cannot come back."""

    vectors: Tensor
    bias: Tensor

    def __init__(self, network: HistoryNetwork, candidates: int) -> None:
        super().__init__()
        self.network = network
        self.candidates = candidates
        bias = network.biases().detach().clone()
        # Padding can never win, whatever the query.
        bias[0] = -torch.inf
        self.register_buffer("vectors", network.items().detach().clone())
        self.register_buffer("bias", bias)

    def forward(self, user_features: Tensor, history: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """`candidate` int32 ``[B, K]`` and `retrieval_score` float32 ``[B, K]``, see the contract.

        The score is the logarithm of the probability of being the next item. Of several queries each has its
        own K best items, and that is the probability among those; an item's score is the best of them.
        """
        queries = self.network.newest(user_features, history, functional.embedding(history, self.vectors))
        logits = queries @ self.vectors.T + self.bias
        # Unused places of `seen` hold 0, which is masked already.
        seen = seen.long().unsqueeze(1).expand(-1, logits.shape[1], -1)
        logits = logits.scatter(2, seen, -torch.inf)
        found = min(self.candidates, logits.shape[2])
        if logits.shape[1] == 1:
            every = logits.squeeze(1).log_softmax(dim=-1)
        else:
            # As large as the whole's for what matters, and known exactly to a search of an index, too.
            own = logits.topk(found, dim=-1).values.logsumexp(dim=-1, keepdim=True)
            every = (logits - own).amax(dim=1)
        scores, candidate = every.topk(found, dim=-1)
        left = scores > -torch.inf
        more = (0, self.candidates - found)
        return (
            functional.pad(torch.where(left, candidate, 0), more).int(),
            functional.pad(torch.where(left, scores, PADDING_SCORE), more, value=PADDING_SCORE),
        )


class QueryGraph(nn.Module):
    """A network as it is served beside an index, which knows the item vectors."""

    def __init__(self, network: HistoryNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        """`query` float32 ``[B, d]``, or ``[B, queries, d]`` where there are several.

        `history_vectors` float32 ``[B, L, d]`` are those of `history`.
        """
        queries = self.network.newest(user_features, history, history_vectors)
        return queries[:, 0] if queries.shape[1] == 1 else queries
