"""Trained models to the ONNX graphs that TensorRT makes plans of, and the proof that both say the same."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from tritonrec_client.contract import CANDIDATE, MODELS, RETRIEVAL_SCORE, Sizes, release_tensor

from python_backend.graph import Graph
from tools.checks import CheckFailed
from tools.config.gpu import PlanPrecision
from tools.plans.graphs import FOLDER
from tools.plans.precision import Codes, quantise_weights
from tools.training.candidates import PADDING_SCORE
from tools.training.export import GraphMismatch, RankGraph, RetrieveGraph, made_up_inputs, write_onnx
from tools.training.features import Features
from tools.training.gpu_graphs import GpuRankGraph, GpuRetrieveGraph, Precision
from tools.training.graph_files import write_graph
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

TOLERANCE: dict[PlanPrecision, float] = {"fp32": 1e-4, "fp16": 1e-3, "int8": 0.01, "fp8": 0.1}
"""How far a score may be from float32's, as a share of the greatest in its row. What 8-bit weights do to a
list is for a release's metrics to judge, not for this check, which finds graphs that are wrong."""

ROWS = (1, 5)
"""Rows of the batches that graphs are checked with."""


def export_plan_graphs(
    artifacts: Path,
    *,
    features: Features,
    retriever: Retriever,
    ranker: Ranker,
    sizes: Sizes,
    precision: PlanPrecision,
) -> None:
    """Write ``gpu/retrieve.onnx`` and ``gpu/rank.onnx`` into `artifacts`, in `precision`, and prove them.

    Raises GraphMismatch where ONNX Runtime does not get the list from them that PyTorch gets from the models
    in float32, and CheckFailed where a model does not fit the precision or TensorRT's limits.
    """
    folder = artifacts / FOLDER
    folder.mkdir(parents=True)
    width: Precision = "fp32" if precision == "fp32" else "fp16"
    try:
        pairs: dict[str, tuple[nn.Module, nn.Module]] = {
            "retrieve": (GpuRetrieveGraph(retriever, sizes, width), RetrieveGraph(retriever, sizes)),
            "rank": (GpuRankGraph(ranker, width), RankGraph(ranker)),
        }
    except ValueError as error:
        raise CheckFailed(f"profile gpu: {error}") from error
    for stage, (graph, reference) in pairs.items():
        path = folder / f"{stage}.onnx"
        outputs = [tensor.name for tensor in MODELS[stage].outputs if tensor != release_tensor(stage)]
        write_onnx(graph.eval(), made_up_inputs(stage, features, sizes, rows=3), outputs, path)
        if precision == "int8" or precision == "fp8":
            quantise_graph(path, precision)
        # ONNX Runtime has no 8-bit floats on a CPU; what is left of that graph is checked by its weights.
        if precision != "fp8":
            for rows in ROWS:
                inputs = made_up_inputs(stage, features, sizes, rows=rows)
                check_plan_graph(reference.eval(), Graph(path), inputs, TOLERANCE[precision])


def quantise_graph(path: Path, precision: Codes) -> None:
    """Write the graph at `path` again, with 8-bit weights. Raises GraphMismatch where it has none."""
    model = onnx.load(path)
    if not quantise_weights(model, precision):
        raise GraphMismatch(f"{path.name}: has no weights of matrix products to store as {precision}")
    onnx.checker.check_model(model)
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        fresh = Path(temporary) / path.name
        write_graph(model, fresh)
        path.with_suffix(".weights").unlink(missing_ok=True)
        for file in sorted(Path(temporary).iterdir()):
            file.replace(path.parent / file.name)


@torch.no_grad()
def check_plan_graph(
    reference: nn.Module, graph: Graph, inputs: Mapping[str, NDArray[Any]], tolerance: float
) -> None:
    """Raise GraphMismatch unless `graph` answers `inputs` as `reference` does, up to `tolerance`.

    Each score may be off by `tolerance` times the greatest in its row by size. The candidates are the same
    set but for those whose scores are so near to the last one's that any of them is right.
    """
    answer = reference(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    wanted = [tensor.numpy() for tensor in (answer if isinstance(answer, tuple) else (answer,))]
    found = graph(inputs)
    for (name, given), expected in zip(found.items(), wanted, strict=True):
        if given.dtype != expected.dtype or given.shape != expected.shape:
            raise GraphMismatch(
                f"{name}: {given.dtype} {given.shape}; expected {expected.dtype} {expected.shape}"
            )
    if CANDIDATE.name in found:
        items, scores = wanted
        _check_lists(items, scores, found[CANDIDATE.name], found[RETRIEVAL_SCORE.name], tolerance)
    else:
        _check_scores(wanted[0], next(iter(found.values())), tolerance)


def _check_scores(wanted: NDArray[Any], found: NDArray[Any], tolerance: float) -> None:
    if ((wanted == PADDING_SCORE) != (found == PADDING_SCORE)).any():
        raise GraphMismatch("scores: padding is not where it should be")
    off = np.abs(np.where(wanted == PADDING_SCORE, 0, wanted - found)).max(axis=1)
    share = off / _greatest(wanted)
    if not (share <= tolerance).all():
        raise GraphMismatch(
            f"scores: off by {share.max():.2g} of the greatest in the row; allowed is {tolerance}"
        )


def _check_lists(
    items: NDArray[Any],
    scores: NDArray[Any],
    found_items: NDArray[Any],
    found_scores: NDArray[Any],
    tolerance: float,
) -> None:
    allowed = tolerance * _greatest(scores)
    for row in range(len(items)):
        wanted = dict(zip(items[row].tolist(), scores[row].tolist(), strict=True))
        found = dict(zip(found_items[row].tolist(), found_scores[row].tolist(), strict=True))
        wanted.pop(0, None)
        found.pop(0, None)
        if len(wanted) != len(found):
            raise GraphMismatch(f"{CANDIDATE.name}: {len(found)} in row {row}; expected {len(wanted)}")
        last = min(wanted.values(), default=0.0)
        for item in wanted.keys() | found.keys():
            # Who is on one list alone must have tied for its last place.
            expected, given = wanted.get(item, last), found.get(item, last)
            if not abs(expected - given) <= 2 * allowed[row]:
                there = "is" if item in found else "is not"
                raise GraphMismatch(
                    f"{CANDIDATE.name}: item {item} {there} among those of row {row} with {given:.5g};"
                    f" expected {expected:.5g}, allowed is ± {2 * allowed[row]:.2g}"
                )


def _greatest(scores: NDArray[Any]) -> NDArray[Any]:
    sizes = np.abs(np.where(scores == PADDING_SCORE, 0, scores))
    return np.maximum(sizes.max(axis=1), 1e-6)
