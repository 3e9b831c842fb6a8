"""Trained models as programs for the profile gpu_torch, and the proof that both say the same."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tritonrec_client.contract import CANDIDATE, MODELS, RANK_SCORE, RETRIEVAL_SCORE, RETRIEVE_AND_RANK, Sizes

from python_backend.gpu.programs import FOLDER, INDEX, QUERY, RANK
from python_backend.gpu.stage import RetrieveAndRank
from python_backend.item_index import INDEX as LOCAL_INDEX
from python_backend.release import Release
from tools.training.export import GraphMismatch, RankGraph, RetrieveGraph, made_up_inputs
from tools.training.features import Features
from tools.training.gpu_graphs import GpuQueryGraph, GpuRankGraph, Precision
from tools.training.item_search import index_of
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}
"""How far any rank score may be from that of float32, as a part of it, and where that is little, beside it.
Usually they are a tenth of that, but that depends on how large a model's weights are."""


class GuardedQuery(GpuQueryGraph):
    """Takes any codes: one that is not in the table would leave a card unusable for every later request."""

    def forward(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        last = self.tower.user_embedding.embedding.num_embeddings - 1
        return super().forward(user_features.clamp(0, last), history, history_vectors)


class GuardedRank(GpuRankGraph):
    """The same for the ranker."""

    def forward(
        self, user_features: Tensor, history: Tensor, candidate: Tensor, retrieval_score: Tensor
    ) -> Tensor:
        last = self.user_embedding.embedding.num_embeddings - 1
        return super().forward(user_features.clamp(0, last), history, candidate, retrieval_score)


def export_gpu_torch(
    retriever: Retriever,
    ranker: Ranker,
    features: Features,
    sizes: Sizes,
    folder: Path,
    *,
    precision: Precision = "fp16",
) -> None:
    """Write ``artifacts/gpu_torch`` of the release `folder`: both programs, and the index if there is none.

    The query tower stays in float32, so that lists are those of the local profile; the ranker is in
    `precision`. Raises GraphMismatch where the stage answers otherwise than the float32 graphs.
    """
    programs = folder / "artifacts" / FOLDER
    programs.mkdir(parents=True)
    if not (folder / "artifacts" / LOCAL_INDEX).is_dir():
        index_of(retriever).write(programs / INDEX)
    inputs = made_up_inputs("retrieve", features, sizes, rows=3)
    query_inputs = {
        "user_features": inputs["user_features"],
        "history": inputs["history"],
        "history_vectors": retriever.items().detach().numpy()[inputs["history"]],
    }
    write_program(GuardedQuery(retriever), query_inputs, programs / QUERY)
    rank_inputs = made_up_inputs("rank", features, sizes, rows=3)
    write_program(GuardedRank(ranker, precision), rank_inputs, programs / RANK)
    stage = RetrieveAndRank.load(Release("", sizes, folder), {"device": "cpu"})
    for rows in (1, 5):
        check_stage(stage, retriever, ranker, features, sizes, rows, TOLERANCES[precision])


def write_program(module: nn.Module, inputs: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write `module` to `path` with a dynamic batch, traced with the example `inputs`, by name."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter warns of its own deprecations.
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module.eval(),
            (),
            {name: torch.from_numpy(array) for name, array in inputs.items()},
            dynamic_shapes={name: {0: batch} for name in inputs},
        )
        torch.export.save(program, path)


@torch.no_grad()
def check_stage(
    stage: RetrieveAndRank,
    retriever: Retriever,
    ranker: Ranker,
    features: Features,
    sizes: Sizes,
    rows: int,
    tolerance: float,
) -> None:
    """Raise GraphMismatch unless `stage` finds and scores as the float32 graphs do, on made-up requests.

    Another candidate is right if it has the same score up to rounding. Rank scores are compared for the
    candidates that `stage` found.
    """
    inputs = made_up_inputs("retrieve", features, sizes, rows)
    inputs = {tensor.name: inputs[tensor.name] for tensor in MODELS[RETRIEVE_AND_RANK.name].inputs}
    found = stage(inputs)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    _, scores = RetrieveGraph(retriever, sizes).eval()(**tensors)
    candidate, retrieval_score = (torch.from_numpy(found[each.name]) for each in (CANDIDATE, RETRIEVAL_SCORE))
    rank_scores = RankGraph(ranker).eval()(
        tensors["user_features"], tensors["history"], candidate, retrieval_score
    )
    for name, wanted, allowed in (
        # Best first in both, so equal lists of scores are equal lists of items except for ties.
        (RETRIEVAL_SCORE.name, scores.numpy(), 1e-3),
        (RANK_SCORE.name, rank_scores.numpy(), tolerance),
    ):
        if not np.allclose(found[name], wanted, rtol=allowed, atol=allowed):
            difference = np.abs(found[name] - wanted).max()
            raise GraphMismatch(f"{RETRIEVE_AND_RANK.name}: {name} differs by up to {difference:.2g}")
