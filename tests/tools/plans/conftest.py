"""Graphs in every precision, and TensorRT for RTX, which compiles them without a card."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from plan_release import ITEMS, PAIRS, features_of, make_plan_release, models_of
from toy_release import SIZES
from tritonrec_client.contract import MODELS

from tools.plans.export import export_plan_graphs, quantise_graph
from tools.plans.graphs import FOLDER, Graphs
from tools.plans.library import RTX, Library, LibraryMissing, find_library
from tools.training.export import made_up_inputs, write_onnx
from tools.training.gpu_graphs import GpuRankGraph

RELEASE = "0123456789ab"


@pytest.fixture(scope="session")
def rtx() -> Library:
    """TensorRT for RTX."""
    try:
        return find_library((RTX,))
    except LibraryMissing as error:
        pytest.skip(f"needs tensorrt_rtx (pip install 'tritonrec[plans-check]'): {error}")


@pytest.fixture
def only_rtx(rtx: Library, monkeypatch: pytest.MonkeyPatch) -> Library:
    """A machine without TensorRT itself."""
    monkeypatch.setattr(find_library, "__defaults__", ((RTX,),))
    return rtx


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graphs]:
    """A release in each precision, exported and held against PyTorch in float32."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("graphs")
    features = features_of(ITEMS)
    retriever, ranker = models_of(features)
    for precision in ("fp32", "fp16"):
        export_plan_graphs(
            folder / precision,
            features=features,
            retriever=retriever,
            ranker=ranker,
            sizes=SIZES,
            precision=precision,
        )
    for precision in ("int8", "fp8"):
        shutil.copytree(folder / "fp16", folder / precision)
        for path in (folder / precision / FOLDER).glob("*.onnx"):
            quantise_graph(path, precision)
    torch.set_num_threads(threads)
    return {
        precision: make_plan_release(
            folder / "builds" / precision, RELEASE, folder / precision / FOLDER, precision
        )
        for precision in ("fp32", "fp16", "int8", "fp8")
    }


@pytest.fixture(scope="session")
def pairs_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ranker of a small catalogue in half precision: the evidence of all pairs is a table."""
    features = features_of(PAIRS)
    path = tmp_path_factory.mktemp("pairs") / "rank.onnx"
    outputs = [tensor.name for tensor in MODELS["rank"].outputs[:-1]]
    graph = GpuRankGraph(models_of(features)[1], "fp16").eval()
    write_onnx(graph, made_up_inputs("rank", features, SIZES, rows=3), outputs, path)
    return path
