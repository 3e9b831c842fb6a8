"""Distillation: a smaller ranker learns to answer like the trained one (Hinton et al. 2015,
https://arxiv.org/abs/1503.02531; of rankers Tang & Wang 2018, https://arxiv.org/abs/1809.07428).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from tools.config.compression import StudentConfig
from tools.config.training import RankConfig
from tools.training.candidates import RankingExamples, rows_of
from tools.training.features import Features
from tools.training.optimisation import Optimisation
from tools.training.rank_training import rank_logits
from tools.training.ranker import Ranker
from tools.training.retriever import Progress

BATCH = 32
"""Requests of a step; each has hundreds of candidates to learn from."""


def new_student(
    teacher: Ranker, config: StudentConfig, rank: RankConfig, features: Features, history: int, seed: int
) -> Ranker:
    """A ranker of the form `config` with the teacher's evidence, and its item vectors in fewer dimensions.

    Those are their projections onto the axes along which they differ most, so that items which no request
    will hold are known, too. Everything else is new.
    """
    torch.manual_seed(seed)
    student = Ranker(rank.model_copy(update=config.form), features, history)
    student.evidence = teacher.evidence
    with torch.no_grad():
        vectors = teacher.items()
        axes = torch.linalg.eigh(vectors.T @ vectors).eigenvectors.flip(1)[:, : config.width]
        # A student that is wider than its teacher has nothing in the other dimensions.
        held = torch.zeros_like(student.items.identity.weight)
        held[:, : axes.shape[1]] = vectors @ axes
        student.items.hold(held)
    return student.eval()


def teach(
    student: Ranker,
    teacher: Ranker,
    requests: RankingExamples,
    features: Features,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    progress: Progress = lambda done, total, text: None,
) -> list[float]:
    """Train `student` until its probabilities over the candidates are those of `teacher`; the loss by epoch.

    The loss is the Kullback-Leibler divergence, in nats, between the softmaxes over each request's
    candidates, both as they are served. What was the right answer plays no part. Raises FloatingPointError
    where the loss becomes infinite.
    """
    random = np.random.default_rng(seed)
    wanted = rank_logits(teacher, requests, features)
    optimisation = Optimisation(
        student.parameters(),
        learning_rate=learning_rate,
        weight_decay=0.0,
        steps=epochs * math.ceil(len(requests.users) / BATCH),
    )
    student.eval()  # no dropout: the student is small, and has to answer as it is served
    curve = []
    for epoch in range(1, epochs + 1):
        losses = []
        order = random.permutation(len(requests.users))
        for begin in range(0, len(order), BATCH):
            chosen = order[begin : begin + BATCH]
            part = rows_of(requests, chosen)
            losses.append(
                optimisation.step(_divergence(student, torch.from_numpy(wanted[chosen]), part, features))
            )
        curve.append(float(np.mean(losses)))
        progress(epoch, epochs, f"divergence {curve[-1]:.4f}")
    return curve


def _divergence(student: Ranker, wanted: Tensor, requests: RankingExamples, features: Features) -> Tensor:
    histories, candidates = torch.from_numpy(requests.histories), torch.from_numpy(requests.candidates)
    evidence = student.evidence(histories, candidates)
    vectors, (history_rows, candidate_rows) = student.items.table(histories, candidates)
    users, scores = torch.from_numpy(features.users[requests.users]), torch.from_numpy(requests.scores)
    found = student(users, history_rows, candidate_rows, scores, evidence, vectors)
    empty = candidates == 0
    return functional.kl_div(
        found.masked_fill(empty, -1e9).log_softmax(dim=-1),
        wanted.masked_fill(empty, -1e9).log_softmax(dim=-1),
        reduction="batchmean",
        log_target=True,
    )
