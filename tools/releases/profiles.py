"""What a release carries for the profiles that need a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.config.build import BuildConfig
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
        from tools.plans.graphs import gpu_facts

        export_plan_graphs(
            folder / "artifacts",
            features=features,
            retriever=retriever,
            ranker=ranker,
            sizes=config.sizes,
            precision=config.gpu.precision,
        )
        facts["gpu"] = gpu_facts(config.gpu.precision, config.gpu.optimum_batch, folder / "models")
    return facts
