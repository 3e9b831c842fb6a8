"""Both models of a release, trained side by side: one run is shared, for it starts a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import HISTORY, features_of, random_interactions, rank_config, retrieve_config

from tools.config.build import BuildConfig
from tools.config.training import DistilConfig
from tools.training.candidates import newest_counts, out_of_fold_examples
from tools.training.evidence import Neighbours
from tools.training.models import Models, train_models
from tools.training.rank_training import train_ranker
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import HeldOut, Progress, Retriever
from tools.training.teacher import Teacher

N_USERS, N_ITEMS, K, SEED = 16, 20, 8, 3
RETRIEVE, RANK = retrieve_config(epochs=2, dropout=0.1), rank_config(epochs=2, dropout=0.1, negatives=4)
EVENTS, FEATURES = random_interactions(N_USERS, N_ITEMS), features_of(N_USERS, N_ITEMS)


def teacher() -> Teacher:
    """Has learned nothing, and says so with conviction."""
    torch.manual_seed(7)
    model = Retriever(retrieve_config(width=12), FEATURES, HISTORY).eval().requires_grad_(False)
    with torch.no_grad():
        model.bias.normal_()
    unknown = torch.zeros(N_ITEMS + 1, dtype=torch.bool)
    distil = DistilConfig(teacher=Path("none.pt"), weight=0.5, temperature=2.0)
    return Teacher(model, FEATURES, HISTORY, unknown, distil)


def config() -> BuildConfig:
    events = {"path": Path("none.csv"), "user": "u", "item": "i", "timestamp": "t"}
    content = {"name": "shop", "seed": SEED, "data": {"events": events}}
    widths = {"history": HISTORY, "candidates": K, "results": 2}
    models = {"retrieve": RETRIEVE.model_dump(), "rank": RANK.model_dump()}
    return BuildConfig.model_validate({**content, "contract": widths, **models})


@dataclass
class Told:
    """What was shown of the progress."""

    steps: list[str] = field(default_factory=list)
    updates: list[tuple[str, int, int]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Progress]:
        self.steps.append(name)
        yield lambda done, total, text: self.updates.append((name, done, total))


@pytest.fixture(scope="module", autouse=True)
def _torch_as_before() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def models(told: Told) -> Models:
    measured = HeldOut(EVENTS.without_last(1), EVENTS.last(1))
    return train_models(config(), EVENTS, FEATURES, told.step, measured, teacher())


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_the_retriever_is_the_one_that_would_have_been_trained_here(models: Models) -> None:
    here, _ = train_retriever(EVENTS, FEATURES, RETRIEVE, history=HISTORY, seed=SEED, teacher=teacher())
    assert_same_weights(models.retriever, here)
    without, _ = train_retriever(EVENTS, FEATURES, RETRIEVE, history=HISTORY, seed=SEED)
    assert not torch.equal(models.retriever.bias, without.bias)
    assert not models.retriever.training


def test_the_ranker_learns_from_a_retriever_of_older_events(models: Models) -> None:
    """And that one has no teacher: a teacher knows the answers."""
    examples, curve = out_of_fold_examples(
        EVENTS, FEATURES, RETRIEVE, RANK, history=HISTORY, candidates=K, seed=SEED
    )
    older = EVENTS.without_last(newest_counts(EVENTS, RANK))
    neighbours = Neighbours.of(older, RANK.neighbours)
    alone, ranker_curve = train_ranker(
        examples, FEATURES, RANK, history=HISTORY, seed=SEED, neighbours=neighbours
    )
    assert_same_weights(models.ranker, alone)
    assert models.curves["older retriever"] == curve
    assert models.curves["ranker"] == ranker_curve


def test_what_is_served_rests_on_the_evidence_of_every_event(models: Models) -> None:
    everything = Neighbours.of(EVENTS, RANK.neighbours)
    np.testing.assert_array_equal(models.ranker.evidence.items.numpy(), everything.items)
    np.testing.assert_array_equal(models.ranker.evidence.weights.numpy(), everything.weights)


def test_there_is_a_curve_for_every_training_and_validation_is_in_the_retrievers(models: Models) -> None:
    assert list(models.curves) == ["retriever", "older retriever", "ranker"]
    assert [len(curve) for curve in models.curves.values()] == [2, 2, 2]
    assert "validation_ndcg_10" in models.curves["retriever"][-1]


def test_progress_is_told_step_by_step(models: Models, told: Told) -> None:
    older, ranker, _ = told.steps
    assert told.updates == [(older, 1, 2), (older, 2, 2), (ranker, 1, 2), (ranker, 2, 2)]


def test_the_other_process_does_not_outlive_a_killed_build() -> None:
    script = (
        "import multiprocessing, os, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from tools.training.models import start_worker\n"
        "if __name__ == '__main__':\n"
        "    other = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), start_worker)\n"
        "    print(other.submit(os.getpid).result(), flush=True)\n"
        "    other.submit(time.sleep, 60).result()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True
    ) as build:
        assert build.stdout is not None
        worker = Path("/proc") / build.stdout.readline().strip()
        assert worker.exists()
        build.kill()
    deadline = time.monotonic() + 20
    while is_running(worker):
        assert time.monotonic() < deadline, "the worker goes on"
        time.sleep(0.1)


def is_running(process: Path) -> bool:
    """Whether the process of this folder in /proc is there and no zombie."""
    try:
        return (process / "stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
