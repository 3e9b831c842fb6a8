"""What a release carries for the profiles that need a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.config.build import BuildConfig
from tools.plans.graphs import PROFILE, STAGES
from tools.serving.model_files import RepositoryError, read_config
from tools.training.features import Features
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever


def write_profiles(
    folder: Path, config: BuildConfig, *, features: Features, retriever: Retriever, ranker: Ranker
) -> dict[str, Any]:
    """Write what each of ``config.profiles`` serves from into the release `folder`, under ``artifacts``.

    Returns what the manifest is to say of it. Raises GraphMismatch where an exported graph does not answer
    like the model it came from.
    """
    facts: dict[str, Any] = {}
    if "gpu" in config.profiles:
        from tools.plans.export import export_plan_graphs

        export_plan_graphs(
            folder / "artifacts",
            features=features,
            retriever=retriever,
            ranker=ranker,
            sizes=config.sizes,
            precision=config.gpu.precision,
        )
        facts["gpu"] = gpu_facts(config.gpu.precision, config.gpu.optimum_batch, folder / "models")
    if "gpu_torch" in config.profiles:
        from tools.training.gpu_export import export_gpu_torch

        export_gpu_torch(retriever, ranker, features, config.sizes, folder)
    return facts


def gpu_facts(precision: str, optimum_batch: int, models: Path) -> dict[str, Any]:
    """What a manifest says under ``gpu`` of graphs in `precision` for the `models` of a release."""
    most = most_rows(models)
    return {"precision": precision, "optimum_batch": min(optimum_batch, most), "most_rows": most}


def most_rows(models: Path) -> int:
    """The most rows of a batch that the stages take in this profile, by the configurations in `models`.

    Raises RepositoryError where the stages differ.
    """
    limits = {
        stage: read_config(models / stage / "configs" / f"{PROFILE}.pbtxt").max_batch_size for stage in STAGES
    }
    if len(set(limits.values())) != 1:
        raise RepositoryError(f"{models}: max_batch_size differs between the stages of {PROFILE}: {limits}")
    return next(iter(limits.values()))
