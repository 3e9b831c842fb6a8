"""Training the retriever: one loop, for one process and for many that share each batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tools.config.training import DistributedConfig, RetrieveConfig
from tools.data.interactions import Interactions
from tools.evaluation.metrics import ndcg, recall
from tools.training.features import Features
from tools.training.lesson import Lesson
from tools.training.optimisation import Optimisation
from tools.training.retriever import HeldOut, Loss, Progress, Retriever, choose_loss, target_ranks
from tools.training.robust import Robust
from tools.training.teacher import Teacher
from tools.training.windows import Windows, cut_windows, shuffle_ties
from tools.training.workers import ALONE, Workers

Curve = list[dict[str, float]]
PLAIN = {"precision": "float32", "recompute": False}
"""How a build trains."""


def train_retriever(
    interactions: Interactions,
    features: Features,
    config: RetrieveConfig,
    *,
    history: int,
    seed: int,
    start: Retriever | None = None,
    teacher: Teacher | None = None,
    validation: HeldOut | None = None,
    progress: Progress = lambda done, total, text: None,
) -> tuple[Retriever, Curve]:
    """Train on every event of `interactions`; return the model and a row per epoch for the curves.

    Training begins with a new model, or goes on with `start`, which is changed. With a `teacher` the model
    learns from it, too. `validation` is only measured, every fifth epoch and at the end; without any target
    it is left out.
    """
    trainer = Trainer(
        interactions, features, config, history=history, seed=seed, start=start, teacher=teacher
    )
    trainer.run(validation=validation, progress=progress)
    return trainer.model.eval(), trainer.curve


class Trainer:
    """A run of training, and where it stands.

    Every process of `workers` cuts the same batches and takes its part of each. The loss of a part counts by
    its targets, so that a step is the same, up to rounding and dropout, for any number of processes and
    parts; an adversary alone (`Robust`) looks for the worst steps of each part.

    Attributes:
        epoch: the running one, from 1; one more than there are when training is over.
        losses: of each step that was made in it.
        curve: a row for each epoch before it.
        random: draws what all processes share: ties, windows, batches, hidden features, negatives.
        epoch_began: the state of `random` before the running epoch's batches were drawn.
    """

    def __init__(
        self,
        interactions: Interactions,
        features: Features,
        config: RetrieveConfig,
        *,
        history: int,
        seed: int,
        start: Retriever | None = None,
        teacher: Teacher | None = None,
        workers: Workers = ALONE,
        distributed: DistributedConfig | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.interactions, self.features, self.config, self.history = interactions, features, config, history
        self.workers = workers
        self.model = (start or Retriever(config, features, history)).to(workers.device)
        self.teacher = None if teacher is None else teacher.to(workers.device)
        settings = distributed or DistributedConfig.model_validate(PLAIN)
        self.accumulate = settings.accumulate
        self.model.tower.recompute = settings.recompute
        # What a process drops out must differ from what the others do; their models must not.
        if workers.rank:
            torch.manual_seed(seed + workers.rank)
        bf16 = settings.precision == "bf16" or (settings.precision == "auto" and workers.on_cuda)
        # A model to go on with has had its epochs of usual training.
        self.robust = Robust(config.robust, from_epoch=None if start is None else 0)
        loss = choose_loss(interactions, config)
        self._loss = workers.share(_LossOf(self.model, loss, self.robust, bf16))
        self.steps = len(_Epoch(interactions, config, history, np.random.default_rng(seed)).batches)
        self.optimisation = Optimisation(
            self.model.parameters(),
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            steps=self.steps * config.epochs,
            clip=settings.clip,
        )
        self.epoch = 1
        self.losses: list[float] = []
        self.curve: Curve = []
        self.epoch_began = self.random.bit_generator.state

    @property
    def done(self) -> int:
        """How many steps were made, in all epochs."""
        return self.optimisation.schedule.last_epoch

    def run(
        self,
        *,
        validation: HeldOut | None = None,
        progress: Progress = lambda done, total, text: None,
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Train to the end, from wherever this run stands."""
        if validation is not None and not validation.targets.any():
            validation = None
        while self.epoch <= self.config.epochs:
            self.model.train()
            self.robust.epoch = self.epoch
            for batch in self._batches():
                self.losses.append(self._step(batch))
                after_step()
            row = {"epoch": float(self.epoch), "loss": float(np.mean(self.losses))}
            measured = self.epoch % 5 == 0 or self.epoch == self.config.epochs
            if validation is not None and measured and self.workers.rank == 0:
                ranks = target_ranks(self.model, validation, self.features, self.history)
                row["validation_ndcg_10"] = float(ndcg(ranks, 10).mean())
                row["validation_recall_500"] = float(recall(ranks, 500).mean())
            self.curve.append(row)
            text = "  ".join(f"{key} {value:.4f}" for key, value in row.items() if key != "epoch")
            progress(self.epoch, self.config.epochs, text)
            self.epoch, self.losses = self.epoch + 1, []

    def try_step(self) -> float:
        """Make a step on the longest windows, which take the most memory; its loss."""
        self.model.train()
        self.robust.epoch = self.config.epochs  # an adversary takes memory, too
        epoch = _Epoch(self.interactions, self.config, self.history, self.random)
        longest = np.argsort(epoch.lengths, kind="stable")[-self.config.batch :]
        return self._step(epoch.batch(longest, None))

    def _batches(self) -> Iterator[_Batch]:
        """What is left of the running epoch."""
        now = self.random.bit_generator.state
        if self.losses:
            self.random.bit_generator.state = self.epoch_began
        else:
            self.epoch_began = now
        shuffled = shuffle_ties(self.interactions, self.random)
        epoch = _Epoch(shuffled, self.config, self.history, self.random)
        taught = None if self.teacher is None else self.teacher.queries(shuffled)
        if self.losses:
            self.random.bit_generator.state = now
        for rows in epoch.batches[len(self.losses) :]:
            yield epoch.batch(rows, taught)

    def _step(self, batch: _Batch) -> float:
        """Make a step along the loss of `batch`, and return it."""
        batch = replace(batch, histories=self.robust.hide(batch.histories, self.random))
        codes = self.features.users[batch.users]
        hidden = self.random.random((len(codes), 1)) < self.config.feature_dropout
        codes = np.where(hidden, 0, codes)
        n_parts = self.workers.count * self.accumulate
        drawn = self.random.bit_generator.state
        value = 0.0
        for turn in range(self.accumulate):
            # Every part of the batch is compared with the same negatives.
            self.random.bit_generator.state = drawn
            part, share = batch.part(self.workers.rank * self.accumulate + turn, n_parts)
            lesson = None if self.teacher is None else self.teacher.lesson(part.taught)
            tensors = (codes[part.rows], part.histories, part.targets)
            inputs = [torch.from_numpy(array).to(self.workers.device) for array in tensors]
            with self.workers.gathering(self._loss, last=turn + 1 == self.accumulate):
                loss = self._loss(*inputs, self.random, lesson)
                # Shared gradients are a mean over the processes; this makes them a sum.
                value += self.optimisation.add(loss * (share * self.workers.count))
        self.optimisation.descend()
        return self.workers.mean(value)


class _LossOf(nn.Module):
    """A model with its loss: what processes share has to be one module."""

    def __init__(self, model: Retriever, loss: Loss, robust: Robust, bf16: bool) -> None:
        super().__init__()
        self.model, self.loss, self.robust, self.bf16 = model, loss, robust, bf16

    def forward(
        self,
        users: Tensor,
        histories: Tensor,
        targets: Tensor,
        random: np.random.Generator,
        lesson: Lesson | None,
    ) -> Tensor:
        with torch.autocast(users.device.type, torch.bfloat16, enabled=self.bf16):
            return self.loss(self.model, users, histories, targets, random, lesson, self.robust)


@dataclass(frozen=True)
class _Batch:
    """Windows that make a step together.

    Attributes:
        rows: int64 ``[n]``, the places of these windows in the whole batch.
        users: int64 ``[n]``.
        histories, targets: int32 ``[n, L]``.
        taught: the teacher's query vectors ``[n, L, e]``, with a teacher.
    """

    rows: NDArray[np.int64]
    users: NDArray[np.int64]
    histories: NDArray[np.int32]
    targets: NDArray[np.int32]
    taught: Any = None

    def part(self, number: int, count: int) -> tuple[_Batch, float]:
        """One of `count` parts, and its share of the targets."""
        rows = self.rows[number::count]
        share = (self.targets[rows] > 0).sum() / max((self.targets > 0).sum(), 1)
        # A mean needs something to be taken over: where there is nothing, a row that does not count.
        rows = rows if len(rows) else self.rows[:1]
        targets = self.targets[rows] if share else np.ones_like(self.targets[rows])
        taught = None if self.taught is None else self.taught[rows]
        return _Batch(rows, self.users[rows], self.histories[rows], targets, taught), float(share)


class _Epoch:
    """An epoch's windows, in batches of like length; everything is drawn when it is made."""

    def __init__(
        self, interactions: Interactions, config: RetrieveConfig, history: int, random: np.random.Generator
    ) -> None:
        self.windows: Windows = cut_windows(interactions, history, random)
        # What must be kept of a row from the right: its history and the position before its first item.
        known = (self.windows.histories != 0).sum(axis=1)
        self.lengths = np.minimum(known + 1, history)
        order = np.argsort(self.lengths + random.random(len(self.lengths)) * history * 0.2)
        batches = [order[begin : begin + config.batch] for begin in range(0, len(order), config.batch)]
        self.batches = [batches[index] for index in random.permutation(len(batches))]

    def batch(self, rows: NDArray[np.int64], taught: Tensor | None) -> _Batch:
        """The windows in `rows`, cut to the longest; `taught` are query vectors ``[n_events, e]``."""
        windows, width = self.windows, int(self.lengths[rows].max())
        queries = None
        if taught is not None:
            events = windows.stops[rows][:, None] - width + np.arange(width)
            queries = taught[torch.from_numpy(np.maximum(events, 0))]  # before a user: never asked for
        return _Batch(
            np.arange(len(rows)),
            windows.users[rows],
            windows.histories[rows, -width:],
            windows.targets[rows, -width:],
            queries,
        )
