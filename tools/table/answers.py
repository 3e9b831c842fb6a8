"""What every model of a release answers to the same users, served by Triton and in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpcclient
from numpy.typing import NDArray

from python_backend.pipeline import load_stage
from python_backend.plan import Plan, Step
from python_backend.release import Release
from tools.checks import Agreement
from tools.evaluation.served import BATCH, Progress, Tensors, infer, requests_of
from tools.releases.in_process import ask

REPEATS, REQUESTS = 5, 60


def ask_triton(
    address: str,
    release: Release,
    user_ids: NDArray[np.int64],
    progress: Progress = lambda done, total: None,
) -> Tensors:
    """Every tensor of every step, by its name on the way, ``[U, width]``; the page is that at diversity 0.

    `user_ids` are wire ids int64 ``[U]``, `address` is gRPC's; the server has a model for each step.
    """
    plan, parts = Plan.of(release), []
    with grpcclient.InferenceServerClient(address) as client:
        for begin in range(0, len(user_ids), BATCH):
            tensors = requests_of(user_ids[begin : begin + BATCH], release.sizes, 0.0)
            for step in plan.steps:
                tensors |= infer(client, step, release.name, tensors)
            parts.append(tensors)
            progress(min(begin + BATCH, len(user_ids)), len(user_ids))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def agreements(release: Release, served: Tensors, options: Mapping[str, str]) -> dict[str, Agreement]:
    """How each step, called here with what Triton's model got, agrees with what that answered, by its model.

    Lists are compared item by item and scores by their greatest relative difference (`Agreement`); a step
    that gives neither has none.
    """
    found = {}
    for step in Plan.of(release).steps:
        lists = [port for port in step.outputs if port.dtype == "INT32" or port.name == "item_id"]
        scores = [port for port in step.outputs if port.dtype == "FP32"]
        if step.stage == "feature_lookup" or not (lists or scores):
            continue
        stage = load_stage(step.stage, step.release(release), options)
        here = ask(stage, {port.tensor: served[port.name] for port in step.inputs})
        different = np.zeros(len(served["user_id"]), dtype=bool)
        for port in lists:
            different |= (here[port.tensor] != served[port.name]).any(axis=1)
        gap = 0.0
        for port in scores:
            there = served[port.name].astype(np.float64)
            gap = max(gap, float((np.abs(here[port.tensor] - there) / (1 + np.abs(there))).max(initial=0)))
        found[step.model] = Agreement(len(different), int(different.sum()), gap)
    return found


def latencies(
    address: str,
    release: Release,
    tensors: Tensors,
    *,
    repeats: int = REPEATS,
    requests: int = REQUESTS,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Milliseconds of each step's model over gRPC, one request of one user at a time: its p50 and p99.

    The models take turns, so that a machine whose speed drifts treats all alike; figures are medians over the
    `repeats`, of which the first only warms up. `tensors` are what `ask_triton` gave.
    """
    steps = Plan.of(release).steps
    users = np.random.default_rng(seed).integers(0, len(tensors["user_id"]), requests)
    runs: dict[str, list[list[float]]] = {step.model: [] for step in steps}
    with grpcclient.InferenceServerClient(address) as client:
        for _ in range(repeats + 1):
            for step in steps:
                runs[step.model].append(_milliseconds(client, step, release.name, tensors, users))
    return {
        model: {
            f"p{percentile}": float(np.median([np.percentile(run, percentile) for run in kept[1:]]))
            for percentile in (50, 99)
        }
        for model, kept in runs.items()
    }


def _milliseconds(
    client: grpcclient.InferenceServerClient,
    step: Step,
    release: str,
    tensors: Tensors,
    rows: NDArray[np.int64],
) -> list[float]:
    spent = []
    for row in rows.tolist():
        own = {port.name: tensors[port.name][row : row + 1] for port in step.inputs}
        began = time.perf_counter()
        infer(client, step, release, own)
        spent.append((time.perf_counter() - began) * 1000)
    return spent


def bytes_of(release: Release, step: Step) -> int:
    """How much of the disk the files of `step` take; without a folder, those that its stage is named by."""
    folder = step.release(release).artifacts
    own: Sequence[Path] = sorted(folder.rglob("*"))
    if step.folder == ".":
        own = [path for path in own if path.relative_to(folder).parts[0].startswith(step.stage)]
    return sum(path.stat().st_size for path in own if path.is_file())
