from __future__ import annotations

import numpy as np
import torch
from toy_rankers import FEATURES, RANK, SIZES, toy_ranker, toy_requests

from tools.compression.distillation import new_student, teach
from tools.config.compression import StudentConfig
from tools.training.rank_training import rank_logits
from tools.training.ranker import Ranker

SMALL = StudentConfig(width=8, heads=1, crosses=1, hidden=8)


def student_of(teacher: Ranker) -> Ranker:
    return new_student(teacher, SMALL, RANK, FEATURES, SIZES.history, seed=5)


def distance(student: Ranker, teacher: Ranker) -> float:
    """The mean divergence of the probabilities that `student` gives the candidates from `teacher`'s."""
    requests = toy_requests()
    empty = requests.candidates == 0
    found, wanted = (
        torch.from_numpy(np.where(empty, -1e9, rank_logits(model, requests, FEATURES))).log_softmax(-1)
        for model in (student, teacher)
    )
    return float((wanted.exp() * (wanted - found)).sum(-1).mean())


def test_a_student_has_the_configured_form_and_the_teachers_evidence() -> None:
    teacher = toy_ranker()
    student = student_of(teacher)
    assert student.items.identity.weight.shape[1] == 8
    assert len(student.crosses) == 1
    assert student.evidence is teacher.evidence
    assert student.shrinkage == teacher.shrinkage
    assert sum(map(torch.numel, student.parameters())) < sum(map(torch.numel, teacher.parameters())) / 2


def test_a_student_begins_with_the_teachers_item_vectors_as_far_as_they_fit() -> None:
    teacher = toy_ranker()
    with torch.no_grad():  # vectors that differ along three axes only
        teacher.items.features.embedding.weight.zero_()
        teacher.items.identity.weight[:, 3:] = 0
        expected, found = teacher.items(), student_of(teacher).items()
    torch.testing.assert_close(found @ found.T, expected @ expected.T, rtol=1e-4, atol=1e-5)
    assert not found[0].any()


def test_learning_brings_the_student_nearer_to_its_teacher() -> None:
    teacher = toy_ranker()
    student = student_of(teacher)
    before = distance(student, teacher)
    losses = teach(student, teacher, toy_requests(), FEATURES, epochs=60, learning_rate=0.01, seed=1)
    after = distance(student, teacher)
    assert after < before / 3
    assert losses[-1] < losses[0] / 3
    assert not student.training


def test_the_teacher_and_the_evidence_stay_as_they_were() -> None:
    teacher, requests = toy_ranker(), toy_requests()
    before = rank_logits(teacher, requests, FEATURES)
    teach(student_of(teacher), teacher, requests, FEATURES, epochs=1, learning_rate=0.1, seed=1)
    np.testing.assert_array_equal(rank_logits(teacher, requests, FEATURES), before)


def test_the_same_seed_gives_the_same_student() -> None:
    teacher, students = toy_ranker(), []
    for _ in range(2):
        student = student_of(teacher)
        teach(student, teacher, toy_requests(), FEATURES, epochs=1, learning_rate=0.01, seed=1)
        students.append(rank_logits(student, toy_requests(), FEATURES))
    np.testing.assert_array_equal(*students)
