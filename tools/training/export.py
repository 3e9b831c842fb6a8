"""Trained models to ONNX graphs that speak the contract, and the proof that both say the same."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn
from tritonrec_client.contract import CANDIDATE, MODELS, RETRIEVAL_SCORE, Sizes, release_tensor

from tools.checks import CheckFailed
from tools.training.candidates import PADDING_SCORE
from tools.training.features import Features
from tools.training.folded_ranker import FoldedRankGraph
from tools.training.folded_tower import FoldedTower
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

if TYPE_CHECKING:
    from python_backend.graph import Graph


class RetrieveGraph(nn.Module):
    """What the served retriever says, spelled out: item vectors are constants, seen items cannot come back.

    `FoldedRetrieveGraph` says the same, and is what is exported.
    """

    vectors: Tensor
    bias: Tensor

    def __init__(self, retriever: Retriever, sizes: Sizes) -> None:
        super().__init__()
        self.tower = retriever.tower
        self.candidates = sizes.candidates
        bias = retriever.bias.detach().clone()
        # Padding can never win, whatever the query.
        bias[0] = -torch.inf
        self.register_buffer("vectors", retriever.items().detach().clone())
        self.register_buffer("bias", bias)

    def forward(self, user_features: Tensor, history: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """`candidate` int32 ``[B, K]`` and `retrieval_score` float32 ``[B, K]``, see the contract."""
        logits = self.query(user_features, history) @ self.vectors.T + self.bias
        # Unused places of `seen` hold 0, which is masked already.
        logits = logits.scatter(1, seen.long(), -torch.inf)
        scores, candidate = logits.log_softmax(dim=-1).topk(self.candidates, dim=-1)
        left = scores > -torch.inf
        return torch.where(left, candidate, 0).int(), torch.where(left, scores, PADDING_SCORE)

    def query(self, user_features: Tensor, history: Tensor) -> Tensor:
        """Float ``[B, d]``."""
        query: Tensor = self.tower.newest(user_features, history, self.vectors[history.long()])
        return query


class FoldedRetrieveGraph(RetrieveGraph):
    """The retriever as it is exported."""

    def __init__(self, retriever: Retriever, sizes: Sizes) -> None:
        super().__init__(retriever, sizes)
        self.folded = FoldedTower(retriever.tower)

    def query(self, user_features: Tensor, history: Tensor) -> Tensor:
        # An index of 32 bits is one to `embedding`, and would be turned into one of 64 bits elsewhere.
        query: Tensor = self.folded(user_features, history, functional.embedding(history, self.vectors))
        return query


class RankGraph(nn.Module):
    """What the served ranker says, spelled out; `FoldedRankGraph` says the same, and is what is exported."""

    vectors: Tensor

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker
        self.register_buffer("vectors", ranker.items().detach().clone())

    def forward(
        self, user_features: Tensor, history: Tensor, candidate: Tensor, retrieval_score: Tensor
    ) -> Tensor:
        """`rank_score` float32 ``[B, K]``."""
        history, candidate_rows = history.long(), candidate.long()
        evidence = self.ranker.evidence(history, candidate_rows)
        evidence = self.ranker.evidence.completed(evidence, candidate_rows, retrieval_score)
        logits = self.ranker(user_features, history, candidate_rows, retrieval_score, evidence, self.vectors)
        return torch.where(candidate == 0, PADDING_SCORE, logits)


NEAR_TIES = 0.02
"""The share of candidates that may be others because scores differ by a little more than rounding."""


class GraphMismatch(CheckFailed):
    """An exported graph does not answer like the model it was exported from."""


def export_rank(ranker: Ranker, features: Features, sizes: Sizes, path: Path) -> None:
    """Write `ranker` to `path` in its folded form, and prove that it answers like `RankGraph` does.

    Raises GraphMismatch as `export_graph` does.
    """
    export_graph(FoldedRankGraph(ranker), "rank", features, sizes, path, reference=RankGraph(ranker).eval())


def export_graph(
    graph: nn.Module,
    stage: str,
    features: Features,
    sizes: Sizes,
    path: Path,
    *,
    reference: nn.Module | None = None,
) -> None:
    """Write `graph`, the `stage` of the contract, to `path` with a dynamic batch, and prove it.

    The file holds no names of this machine: the same model gives the same bytes. Raises GraphMismatch
    where ONNX Runtime and PyTorch's `reference`, by default `graph` itself, differ by more than 1e-4 on
    made-up requests, or in more than 2 % of the candidates.
    """
    from python_backend.graph import Graph

    outputs = [tensor.name for tensor in MODELS[stage].outputs if tensor != release_tensor(stage)]
    write_onnx(graph, made_up_inputs(stage, features, sizes, rows=3), outputs, path)
    for rows in (1, 5):
        check_graph(reference or graph, Graph(path), made_up_inputs(stage, features, sizes, rows=rows))


def write_onnx(
    graph: nn.Module, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], path: Path
) -> None:
    """Write `graph` to `path` with a dynamic batch, traced with the example `inputs`, by name."""
    # What only PyTorch computes needs neither ONNX nor its runtime.
    from tools.training.graph_files import write_graph

    graph.eval()
    batch = torch.export.Dim("batch", min=1, max=4096)
    # It warns that torchvision is missing, which nothing here needs.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter warns of its own deprecations.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            kwargs={name: torch.from_numpy(array) for name, array in inputs.items()},
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes={name: {0: batch} for name in inputs},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for part in (*model.graph.value_info, *model.graph.input, *model.graph.output, model.graph, model):
        part.ClearField("metadata_props")
    write_graph(model, path)


def made_up_inputs(stage: str, features: Features, sizes: Sizes, rows: int) -> dict[str, NDArray[Any]]:
    """Valid inputs of a `stage`, seeded: users with long, short and no histories."""
    random = np.random.default_rng(rows)
    n_items = len(features.items) - 1
    history = random.integers(1, n_items + 1, (rows, sizes.history), dtype=np.int32)
    length = np.linspace(0, sizes.history, rows).astype(int)[:, None]
    history = np.where(np.arange(sizes.history) >= sizes.history - length, history, 0)
    seen = np.zeros((rows, sizes.seen), dtype=np.int32)
    seen[:, : min(sizes.history, sizes.seen)] = history[:, -sizes.seen :]
    candidate = np.stack([random.permutation(n_items)[: sizes.candidates] + 1 for _ in range(rows)])
    values = {
        "user_features": features.users[random.integers(0, len(features.users), rows)],
        "history": history,
        "seen": seen,
        "candidate": candidate.astype(np.int32),
        "retrieval_score": -np.sort(random.exponential(4.0, candidate.shape)).astype(np.float32),
    }
    return {tensor.name: values[tensor.name] for tensor in MODELS[stage].inputs}


def check_graph(module: nn.Module, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Raise GraphMismatch unless `graph` answers `inputs` as `module` does."""
    check_answers(module, graph(inputs), inputs)


@torch.no_grad()
def check_answers(
    module: nn.Module,
    answers: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, NDArray[Any]],
    *,
    normaliser: float = 0.0,
) -> None:
    """Raise GraphMismatch unless `answers` are what `module` answers to `inputs`.

    All retrieval scores of a row may be off by up to `normaliser`, the same for all.
    """
    wanted_all = module(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    expected = [answer.numpy() for answer in (wanted_all if isinstance(wanted_all, tuple) else (wanted_all,))]
    answers = dict(answers)
    if normaliser:
        scores = answers[RETRIEVAL_SCORE.name]
        wanted_scores = expected[list(answers).index(RETRIEVAL_SCORE.name)]
        if scores.shape == wanted_scores.shape:  # otherwise that is what is said below
            shift = np.median(wanted_scores - scores, axis=1, keepdims=True).clip(-normaliser, normaliser)
            answers[RETRIEVAL_SCORE.name] = np.where(scores == PADDING_SCORE, scores, scores + shift)
    for (name, found), wanted in zip(answers.items(), expected, strict=True):
        if wanted.dtype != found.dtype or wanted.shape != found.shape:
            raise GraphMismatch(
                f"{name}: {found.dtype} {found.shape}; expected {wanted.dtype} {wanted.shape}"
            )
        if wanted.dtype.kind == "f" and not np.allclose(wanted, found, rtol=1e-4, atol=1e-4):
            raise GraphMismatch(f"{name}: differs by up to {np.abs(wanted - found).max():.2g}")
    if CANDIDATE.name in answers:
        _check_candidates(dict(zip(answers, expected, strict=True)), answers)


def _check_candidates(wanted: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]) -> None:
    """Raise GraphMismatch where too many candidates are not those that `wanted` has with such a score.

    Items with the same features may have the same score, and then any order is right, and any choice of
    those that tie for the last places.
    """
    items, scores = wanted[CANDIDATE.name], wanted[RETRIEVAL_SCORE.name]
    theirs = np.full((len(items), max(items.max(), found[CANDIDATE.name].max()) + 1), np.nan, np.float32)
    np.put_along_axis(theirs, items.astype(np.int64), scores, axis=1)
    expected = np.take_along_axis(theirs, found[CANDIDATE.name].astype(np.int64), axis=1)
    expected = np.where(np.isnan(expected), scores[:, -1:], expected)
    different = float(np.mean(~np.isclose(expected, found[RETRIEVAL_SCORE.name], rtol=1e-4, atol=1e-4)))
    if different > NEAR_TIES:
        raise GraphMismatch(f"{CANDIDATE.name}: {different:.0%} differ; allowed is {NEAR_TIES:.0%}")
