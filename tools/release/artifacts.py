"""What a release serves from: graphs, item arrays, encoders, and the stage code it was validated with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import Sizes
from tritonrec_client.items import Item, write_items

from tools.config.training import RerankConfig
from tools.data.dataset import Dataset
from tools.serving.repository import write_release_models
from tools.training.export import RankGraph, RetrieveGraph, export_graph
from tools.training.features import Features
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

ROOT = Path(__file__).parents[2]
CODE = {
    "python_backend": ROOT / "python_backend",
    "tritonrec_client": ROOT / "clients" / "tritonrec_client",
}
"""The packages that a release carries, because its answers depend on them."""


def write_artifacts(
    folder: Path,
    *,
    dataset: Dataset,
    popularity: NDArray[Any],
    features: Features,
    retriever: Retriever,
    ranker: Ranker,
    rerank: RerankConfig,
    sizes: Sizes,
) -> None:
    """Write ``artifacts/``, ``code/`` and ``models/`` of a release into `folder`.

    `popularity` int64 ``[I + 1]`` counts each item's training events. Raises `GraphMismatch` where an
    exported graph does not answer like the model it came from.
    """
    artifacts = folder / "artifacts"
    artifacts.mkdir(parents=True)
    export_graph(RetrieveGraph(retriever, sizes), "retrieve", features, sizes, artifacts / "retrieve.onnx")
    export_graph(RankGraph(ranker), "rank", features, sizes, artifacts / "rank.onnx")
    np.savez(
        artifacts / "items.npz",
        wire_id=dataset.interactions.item_ids,
        vectors=unit_vectors(retriever),
        familiarity=(np.log1p(popularity) / np.log1p(max(popularity.max(), 1))).astype(np.float32),
        codes=features.items,
    )
    (artifacts / "user_features.json").write_text(features.user_encoder.to_json(), encoding="utf-8")
    (artifacts / "item_features.json").write_text(features.item_encoder.to_json(), encoding="utf-8")
    (artifacts / "rerank.json").write_text(json.dumps(rerank.model_dump(), indent=2), encoding="utf-8")
    wire_ids = dataset.interactions.item_ids[1:].tolist()
    items = (Item(key, title) for key, title in zip(dataset.item_keys, dataset.item_titles, strict=True))
    write_items(artifacts / "items.tsv", zip(wire_ids, items, strict=True))
    for package, source in CODE.items():
        shutil.copytree(
            source, folder / "code" / package, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    write_release_models(sizes, folder / "models")


def unit_vectors(retriever: Retriever) -> NDArray[Any]:
    """The retriever's item vectors at length 1, float32 ``[I + 1, d]``; padding stays zero."""
    vectors = retriever.items().detach().numpy()
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    vectors[0] = 0
    return vectors.astype(np.float32)
