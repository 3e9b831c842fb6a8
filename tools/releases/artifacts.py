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

from python_backend.pipeline import load_steps, run_steps
from python_backend.plan import PLAN, Plan
from python_backend.release import Release
from tools.compression.variants import Maker
from tools.config.rankers import MAIN
from tools.config.training import RerankConfig
from tools.data.dataset import Dataset
from tools.data.interactions import Interactions
from tools.releases.code import write_code
from tools.serving.repository import write_release_models
from tools.training.checkpoint import write_checkpoint
from tools.training.export import export_rank
from tools.training.features import Features
from tools.training.index_export import export_retrieve
from tools.training.lift import exposure_lift
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever
from tools.training.windows import histories_before

LIFT_USERS = 5000
"""How many users tell which items are hardly ever shown."""

BATCH = 64


def write_artifacts(
    folder: Path,
    *,
    dataset: Dataset,
    histories: Interactions,
    features: Features,
    retriever: Retriever,
    ranker: Ranker,
    rerank: RerankConfig,
    sizes: Sizes,
    form: Maker | None = None,
    plan: Plan | None = None,
    slots: Path | None = None,
) -> None:
    """Write ``artifacts/``, ``training/``, ``code/`` and ``models/`` of a release into `folder`.

    `histories` are what the users did so far, as far as training may know. The ranker is served as it was
    trained, or in the variant that `form` makes of it; ``training/`` has it as it was trained. A release
    whose `plan` is not the contract's stages takes what else serves in it from the folder `slots`. Raises
    `GraphMismatch` or `QuantisationError` where a graph does not answer like the model it came from.
    """
    plan = plan or Plan.default(sizes)
    artifacts = folder / "artifacts"
    artifacts.mkdir(parents=True)
    write_checkpoint(folder, retriever, ranker)
    if plan != Plan.default(sizes):
        (artifacts / PLAN).write_text(plan.to_json(), encoding="utf-8")
        if slots is not None:
            shutil.copytree(slots, artifacts, dirs_exist_ok=True)
    if plan.step("retrieve"):
        export_retrieve(retriever, features, sizes, artifacts)
    step = plan.step("rank") or plan.step(f"rank_{MAIN}")
    if step is not None:
        path = artifacts / step.folder / "rank.onnx"
        path.parent.mkdir(exist_ok=True)
        if form is None:
            export_rank(ranker, features, step.release(Release("", sizes, folder)).sizes, path)
        else:
            form.write(form.config.variant, path)
    lift = measure_lift(folder, histories, features, rerank, sizes)
    np.savez(
        artifacts / "items.npz",
        wire_id=dataset.interactions.item_ids,
        lift=lift,
        codes=features.items,
    )
    # A file of its own, which processes map into memory and share.
    np.save(artifacts / "item_vectors.npy", unit_vectors(retriever))
    (artifacts / "user_features.json").write_text(features.user_encoder.to_json(), encoding="utf-8")
    (artifacts / "item_features.json").write_text(features.item_encoder.to_json(), encoding="utf-8")
    weights = rerank.model_dump(include={"similarity_weight", "lift_weight"})
    (artifacts / "rerank.json").write_text(json.dumps(weights, indent=2), encoding="utf-8")
    wire_ids = dataset.interactions.item_ids[1:].tolist()
    items = (Item(key, title) for key, title in zip(dataset.item_keys, dataset.item_titles, strict=True))
    write_items(artifacts / "items.tsv", zip(wire_ids, items, strict=True))
    write_code(folder / "code")
    write_release_models(sizes, folder / "models", plan=plan)


def measure_lift(
    folder: Path, histories: Interactions, features: Features, rerank: RerankConfig, sizes: Sizes
) -> NDArray[np.float32]:
    """Every item's lift (`exposure_lift`), from what a sample of the users' candidates are ranked by."""
    release = Release("", sizes, folder)
    plan = Plan.of(release)
    middle = load_steps(plan.steps[1:-1], release, {})
    ranked = next(port.name for port in plan.steps[-1].inputs if port.tensor == "candidate")
    users = np.random.default_rng(0).permutation(np.flatnonzero(histories.lengths))[:LIFT_USERS]
    # Of these users alone: for a million of them, what everybody has seen would take gigabytes.
    ends = histories.offsets[1:][users]
    recent = histories_before(histories, users, ends, sizes.history)
    seen = histories_before(histories, users, ends, sizes.seen)
    candidates, logits = [], []
    for begin in range(0, len(users), BATCH):
        rows = slice(begin, begin + BATCH)
        tensors = {
            "user_features": features.users[users[rows]],
            "history": recent[rows],
            "seen": seen[rows],
        }
        tensors = run_steps(middle, tensors)
        candidates.append(tensors[ranked])
        logits.append(tensors["rank_score"])
    return exposure_lift(
        np.concatenate(candidates),
        np.concatenate(logits),
        n_items=histories.n_items,
        results=sizes.results,
        exposure=rerank.exposure,
    )


def unit_vectors(retriever: Retriever) -> NDArray[Any]:
    """The retriever's item vectors at length 1, float32 ``[I + 1, d]``; padding stays zero."""
    vectors = retriever.items().detach().numpy()
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    vectors[0] = 0
    return vectors.astype(np.float32)
