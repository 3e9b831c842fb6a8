"""A release with graphs for TensorRT, of models that nobody trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from toy_release import SIZES, make_release

from python_backend.features import FeatureEncoder, FeatureField
from python_backend.release import Release
from tools.config.training import RankConfig, RetrieveConfig
from tools.plans.graphs import FOLDER, STAGES, Graphs
from tools.training.evidence import Neighbours
from tools.training.features import Features
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

ITEMS = 5000
"""More than four times the candidates, so that the top K has two levels, and more than a table of all pairs
of items is made for, so that evidence is searched for."""
PAIRS = 300
"""Items of a catalogue whose evidence is such a table."""


def features_of(n_items: int) -> Features:
    """Two columns of users, one of items."""
    user_rows = [{"age": float(row % 7), "country": "de" if row % 3 else "fr"} for row in range(20)]
    item_rows = [{"year": float(row % 5)} for row in range(n_items)]
    fields = [FeatureField("age", "numeric", buckets=3), FeatureField("country", "categorical")]
    users = FeatureEncoder.fit(fields, user_rows, SIZES.user_features)
    items = FeatureEncoder.fit([FeatureField("year", "numeric", buckets=4)], item_rows)
    padded = np.zeros((n_items + 1, 1), np.int32)
    padded[1:] = items.encode(item_rows)
    return Features(users.encode(user_rows), padded, users, items)


def models_of(features: Features) -> tuple[Retriever, Ranker]:
    """A retriever and a ranker with evidence, as they are before training."""
    rows = len(features.items)
    random = np.random.default_rng(1)
    retrieve = RetrieveConfig.model_validate({"width": 32, "blocks": 1})
    rank = RankConfig.model_validate({"width": 16, "crosses": 1, "hidden": 32})
    # Ascending steps, so that no item is named twice in a row.
    items = (np.arange(16) * (rows // 16) + random.integers(0, rows // 16, (rows, 16))).astype(np.int32)
    weights = random.normal(size=items.shape).astype(np.float32)
    weights[items == 0] = 0
    retriever = Retriever(retrieve, features, SIZES.history)
    return retriever.eval(), Ranker(rank, features, SIZES.history, Neighbours(items, weights)).eval()


def make_plan_release(build: Path, name: str, graphs: Path, precision: str) -> Graphs:
    """A finished release `name` in the folder `build` with the graphs of the folder `graphs`."""
    release = make_release(build, name)
    shutil.copytree(graphs, release / "artifacts" / FOLDER)
    manifest = json.loads((release / "manifest.json").read_text())
    manifest["gpu"] = {"precision": precision, "optimum_batch": 8, "most_rows": 64}
    (release / "manifest.json").write_text(json.dumps(manifest))
    return Graphs.of(Release.open(release))


def make_empty_graphs(folder: Path, stages: Sequence[str] = STAGES) -> Path:
    """Files where graphs would be, for tests of what happens before and after they are compiled."""
    folder.mkdir(parents=True)
    for stage in stages:
        (folder / f"{stage}.onnx").write_bytes(stage.encode())
    return folder
