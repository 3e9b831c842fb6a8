"""Training both models of a release, side by side."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from tools.config.build import BuildConfig
from tools.data.interactions import Interactions
from tools.training.candidates import newest_counts, out_of_fold_examples
from tools.training.evidence import Evidence, Neighbours
from tools.training.features import Features
from tools.training.rank_training import train_ranker
from tools.training.ranker import Ranker
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import HeldOut, Progress, Retriever
from tools.training.teacher import Teacher

Curve = list[dict[str, float]]
Step = Callable[[str], AbstractContextManager[Progress]]
"""Opens a step of the work by its name; what it gives reports the step's progress."""


@dataclass(frozen=True)
class Models:
    """What training gave; `curves` holds a row per epoch for each model.

    `seconds` is how long each took that serves among several, by the name of its model in Triton.
    """

    retriever: Retriever
    ranker: Ranker
    curves: dict[str, Curve]
    seconds: dict[str, float] = field(default_factory=dict)


def train_models(
    config: BuildConfig,
    interactions: Interactions,
    features: Features,
    step: Step,
    validation: HeldOut | None = None,
    teacher: Teacher | None = None,
) -> Models:
    """Train the retriever and the ranker on every event of `interactions`.

    The ranker does not need the retriever but one of older events, so the two are trained at the same time:
    the retriever in a process of its own, each with half of the cores. That is faster than one after the
    other with all cores, and far less disturbed by whatever else the machine does. `validation` is only
    measured, by the retriever. That one also learns from the `teacher`; the retriever of older events does
    not, since the teacher knows the answers that it must not have seen.
    """
    history, seed = config.sizes.history, config.seed
    # A fresh interpreter: a forked one would inherit the threads' locks but not the threads.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start_worker) as other:
        use_half_of_the_cores()
        training = other.submit(
            train_retriever,
            interactions,
            features,
            config.retrieve,
            history=history,
            seed=seed,
            teacher=teacher,
            validation=validation,
        )
        with step("training a retriever of older events") as update:
            examples, older_curve = out_of_fold_examples(
                interactions,
                features,
                config.retrieve,
                config.rank,
                history=history,
                candidates=config.sizes.candidates,
                seed=seed,
                progress=update,
            )
        with step("training the ranker on its candidates") as update:
            older = interactions.without_last(newest_counts(interactions, config.rank))
            ranker, ranker_curve = train_ranker(
                examples,
                features,
                config.rank,
                history=history,
                seed=seed,
                # Evidence that has not seen the answers either; in service it rests on every event.
                neighbours=Neighbours.of(older, config.rank.neighbours),
                progress=update,
            )
            ranker.evidence = Evidence(Neighbours.of(interactions, config.rank.neighbours))
        with step("training the retriever, meanwhile"):
            retriever, retriever_curve = training.result()
    curves = {
        "retriever": retriever_curve,
        "older retriever": older_curve,
        "ranker": ranker_curve,
    }
    return Models(retriever, ranker, curves)


def start_worker() -> None:
    """Prepare a process that trains for another one, and end it when that one ends, however it does."""
    use_half_of_the_cores()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        # A training in progress would otherwise go on for nobody, for minutes.
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def use_half_of_the_cores() -> None:
    """Let PyTorch in this process use half of the cores, in ways that give the same result every time."""
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
