"""A made-up release that the profile gpu_torch can serve, for a machine that has no release.

Its models have the shipped form and random weights; it has what this profile reads and no ONNX graphs, so
that neither ONNX nor its runtime need be there. It is for measuring and never for serving anybody.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from python_backend.gpu.programs import RANK
from python_backend.release import MANIFEST, Release
from python_backend.stores import open_store
from tools.data.store import fill_store
from tools.gpu.parity import REFERENCE
from tools.releases.code import write_code
from tools.serving.repository import write_release_models
from tools.synthetic.catalogue import (
    synthetic_config,
    synthetic_dataset,
    synthetic_vectors,
    untrained_models,
)
from tools.training.export import made_up_inputs
from tools.training.features import Features
from tools.training.gpu_export import export_gpu_torch, write_program
from tools.training.gpu_graphs import GpuRankGraph

NAME = "0000000000fe"
CORRECTION = 0.05
"""The spread of the ranker's last weights, which are 0 before training: all else would count for nothing."""


def make_up(folder: Path, n_items: int, n_users: int, seed: int) -> tuple[Release, str]:
    """Write a release and its users' store into `folder`; the release and the store's URL."""
    config = synthetic_config(n_items, seed, folder)
    vectors = synthetic_vectors(n_items, config)
    dataset = synthetic_dataset(vectors, n_users, seed)
    features = Features.of(dataset, config)
    models = untrained_models(config, features, vectors, dataset.interactions.popularity())
    with torch.no_grad():
        models.ranker.correction.weight.normal_(std=CORRECTION)
    path = folder / "releases" / NAME
    artifacts = path / "artifacts"
    artifacts.mkdir(parents=True)
    export_gpu_torch(models.retriever, models.ranker, features, config.sizes, path)
    (path / REFERENCE).mkdir()
    inputs = made_up_inputs("rank", features, config.sizes, rows=3)
    write_program(GpuRankGraph(models.ranker), inputs, path / REFERENCE / RANK)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    np.save(artifacts / "item_vectors.npy", np.concatenate([np.zeros_like(unit[:1]), unit]))
    np.savez(
        artifacts / "items.npz",
        wire_id=dataset.interactions.item_ids,
        lift=np.zeros(n_items + 1, np.float32),
        codes=features.items,
    )
    for name, encoder in (("user", features.user_encoder), ("item", features.item_encoder)):
        (artifacts / f"{name}_features.json").write_text(encoder.to_json(), encoding="utf-8")
    weights = config.rerank.model_dump(include={"similarity_weight", "lift_weight"})
    (artifacts / "rerank.json").write_text(json.dumps(weights), encoding="utf-8")
    write_code(path / "code")
    write_release_models(config.sizes, path / "models")
    manifest = {
        "release": NAME,
        "sizes": config.sizes.to_dict(),
        "synthetic": "made up for tools/bench_gpu.py",
    }
    (path / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    url = f"lmdb://{folder / 'store'}"
    with open_store(url) as store:
        fill_store(store, dataset.interactions, dataset.user_features)
    return Release.open(path), url
