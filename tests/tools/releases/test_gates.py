"""Gates: who is as good as the active release passes, who is worse does not; pairs are made by question."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonrec_client.contract import Sizes

from python_backend.release import Release
from tools.checks import CheckFailed
from tools.config.gates import Gate, GatesConfig
from tools.evaluation.comparison import write_comparison
from tools.evaluation.evaluation import RERANK
from tools.evaluation.metrics import ABSENT, Ints
from tools.releases.gates import judge, judge_release

USERS = 900
QUESTIONS = np.random.default_rng(5).integers(2**63 - 1, size=USERS)
ONLY_NDCG = GatesConfig.model_validate({"ndcg_10": {"least_ratio": 0.8}, "coverage_20": {}, "resamples": 200})

Make = Callable[..., Path]


def ranks_of(skill: float, seed: int, users: int = USERS) -> Ints:
    """A model's ranks: some users are easy for everybody, the more `skill` the more targets are found."""
    easy = np.random.default_rng(0).random(users)
    found = np.random.default_rng(seed).random(users) + easy < 2 * skill
    return np.where(found, np.random.default_rng(seed).integers(10, size=users), ABSENT)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a release that has only a report."""

    def make(name: str, ranks: Ints, question: Ints | None = QUESTIONS, coverage: float = 0.6) -> Path:
        report = tmp_path / name / "report"
        report.mkdir(parents=True)
        kept = {RERANK: ranks} if question is None else {RERANK: ranks, "question": question}
        np.savez(report / "ranks.npz", **kept)
        (report / "metrics.json").write_text(json.dumps({"headline": {"coverage_20": coverage}}))
        return report.parent

    return make


def test_a_release_as_good_as_the_active_one_passes_the_shipped_gates(make: Make) -> None:
    for seed in range(2, 12):
        judgement = judge(
            make(f"candidate{seed}", ranks_of(0.4, seed)), make(f"old{seed}", ranks_of(0.4, 1)), GatesConfig()
        )
        assert judgement.passed, judgement.table()


def test_a_clearly_worse_release_is_refused_with_its_figures(make: Make) -> None:
    judgement = judge(make("candidate", ranks_of(0.3, 2)), make("old", ranks_of(0.4, 1)), GatesConfig())
    assert not judgement.passed
    (ndcg, coverage) = judgement.lines
    assert (ndcg.metric, ndcg.passed, coverage.passed) == ("ndcg_10", False, True)
    assert ndcg.ratio is not None
    assert ndcg.ratio.low < ndcg.ratio.mean < 0.8
    assert "ratio ≥ 0.8" in judgement.table()
    assert "FAILED" in judgement.table()


def test_a_release_that_shows_everybody_the_same_is_refused(make: Make) -> None:
    same = ranks_of(0.4, 1)
    judgement = judge(make("candidate", same, coverage=0.02), make("old", same), GatesConfig())
    assert [(line.metric, line.passed) for line in judgement.lines] == [
        ("ndcg_10", True),
        ("coverage_20", False),
    ]


def test_the_lower_end_of_the_interval_decides_and_not_the_mean(make: Make) -> None:
    few = ranks_of(0.4, 2, users=60)
    other = ranks_of(0.4, 7, users=60)
    candidate, active = make("candidate", few, QUESTIONS[:60]), make("old", other, QUESTIONS[:60])
    (line,) = judge(candidate, active, ONLY_NDCG).lines
    assert line.ratio is not None
    assert line.ratio.low < 0.8 < line.ratio.mean
    assert not line.passed


def test_the_first_release_needs_only_what_is_absolute(make: Make, tmp_path: Path) -> None:
    assert judge(make("candidate", ranks_of(0.1, 2)), None, GatesConfig()).passed
    assert judge(tmp_path / "unmeasured", None, GatesConfig()).passed
    demanding = GatesConfig(ndcg_10=Gate(least=0.5, least_ratio=0.8))
    judgement = judge(tmp_path / "candidate", None, demanding)
    assert [line.passed for line in judgement.lines] == [False, True]
    assert judgement.lines[0].needed == "≥ 0.5"


def test_both_demands_of_a_gate_count(make: Make) -> None:
    same = ranks_of(0.4, 1)
    candidate, active = make("candidate", same), make("old", same)
    for least, passed in ((0.05, True), (0.9, False)):
        gates = GatesConfig(ndcg_10=Gate(least=least, least_ratio=0.9))
        assert judge(candidate, active, gates).passed is passed


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_users_are_paired_by_question_and_never_by_position(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder, order = tmp_path_factory.mktemp("shuffled"), np.random.default_rng(seed).permutation(USERS)
    found = []
    for name, places in (("as-it-was", np.arange(USERS)), ("shuffled", order)):
        ours, theirs = folder / name / "candidate", folder / name / "old"
        for release, ranks, at in (
            (ours, ranks_of(0.4, 2), np.arange(USERS)),
            (theirs, ranks_of(0.38, 1), places),
        ):
            (release / "report").mkdir(parents=True)
            np.savez(release / "report" / "ranks.npz", **{RERANK: ranks[at], "question": QUESTIONS[at]})
        found += judge(ours, theirs, ONLY_NDCG).lines
    assert found[0] == found[1]


def test_users_that_only_one_release_was_asked_about_are_left_out(make: Make) -> None:
    ranks = ranks_of(0.4, 1)
    theirs, their_questions = ranks.copy(), QUESTIONS.copy()
    theirs[600:], their_questions[600:] = 0, np.arange(300)
    judgement = judge(make("candidate", ranks), make("old", theirs, their_questions), ONLY_NDCG)
    (line,) = judgement.lines
    assert line.passed
    assert line.ratio is not None
    assert line.ratio.mean == line.ratio.low == 1
    assert line.note == "on the 600 of 900 test users that both were asked about"


@pytest.mark.parametrize("shared", [0, 449])
def test_too_few_pairs_are_no_comparison(make: Make, shared: int) -> None:
    ranks, theirs = ranks_of(0.4, 1), QUESTIONS.copy()
    theirs[shared:] = np.arange(USERS - shared)
    (line,) = judge(make("candidate", ranks), make("old", ranks, theirs), ONLY_NDCG).lines
    assert not line.passed
    assert f"about {shared} of 900 test users; build it again while old is active" in line.note
    assert "--force" in line.note


def test_a_release_from_before_questions_were_kept_cannot_be_paired(make: Make) -> None:
    ranks = ranks_of(0.4, 1)
    (line,) = judge(make("candidate", ranks), make("old", ranks, None), ONLY_NDCG).lines
    assert "about 0 of 900 test users" in line.note


def test_what_the_active_release_said_to_the_same_questions_comes_first(make: Make) -> None:
    candidate = make("candidate", ranks_of(0.4, 2), None)
    write_comparison(candidate / "report", "old", ranks_of(0.4, 1))
    assert judge(candidate, make("old", ranks_of(0.9, 3), None), ONLY_NDCG).passed


def test_a_comparison_with_another_release_does_not_count(make: Make) -> None:
    candidate = make("candidate", ranks_of(0.4, 2))
    write_comparison(candidate / "report", "older", ranks_of(0.1, 1))
    assert not judge(candidate, make("old", ranks_of(0.9, 3)), ONLY_NDCG).passed


def test_a_comparison_of_other_users_is_noticed(make: Make) -> None:
    candidate = make("candidate", ranks_of(0.4, 2))
    write_comparison(candidate / "report", "old", ranks_of(0.4, 1)[:-1])
    (line,) = judge(candidate, make("old", ranks_of(0.4, 1)), ONLY_NDCG).lines
    assert not line.passed
    assert "compared.npz does not belong to ranks.npz" in line.note


@pytest.mark.parametrize(("name", "metric"), [("ranks.npz", "ndcg_10"), ("metrics.json", "coverage_20")])
@pytest.mark.parametrize("release", ["candidate", "old"])
def test_a_missing_or_broken_report_is_a_failed_gate_that_names_the_file(
    make: Make, tmp_path: Path, release: str, name: str, metric: str
) -> None:
    candidate, active = make("candidate", ranks_of(0.4, 1)), make("old", ranks_of(0.4, 1))
    path = tmp_path / release / "report" / name
    for damage in (lambda: path.write_bytes(path.read_bytes()[:20]), path.unlink):
        damage()
        judgement = judge(candidate, active, GatesConfig())
        failed = [line for line in judgement.lines if not line.passed]
        assert [line.metric for line in failed] == [metric]
        assert str(path) in failed[0].note


def test_nothing_can_be_lost_where_the_active_release_finds_nothing(make: Make) -> None:
    nothing = np.full(USERS, ABSENT)
    assert judge(make("candidate", ranks_of(0.1, 2)), make("old", nothing), ONLY_NDCG).passed


def test_gates_that_demand_nothing_are_passed(make: Make, tmp_path: Path) -> None:
    gates = GatesConfig(ndcg_10=Gate(), coverage_20=Gate())
    judgement = judge(tmp_path / "nowhere", tmp_path / "old", gates)
    assert judgement.passed
    assert judgement.table() == "release nowhere: [gates] demands nothing"


def test_a_release_is_judged_by_the_gates_that_it_was_built_with(make: Make) -> None:
    folder = make("0123456789ab", ranks_of(0.4, 1))
    manifest = {"release": folder.name, "sizes": Sizes().to_dict()}
    for gates, passed in ((None, True), ({"ndcg_10": {"least": 0.9}}, False), ({"ndcg_10": {}}, True)):
        content = manifest if gates is None else {**manifest, "gates": gates}
        (folder / "manifest.json").write_text(json.dumps(content))
        assert judge_release(Release.open(folder), None).passed is passed


def test_gates_of_a_manifest_that_cannot_be_read_are_said(make: Make) -> None:
    folder = make("0123456789ab", ranks_of(0.4, 1))
    content = {"release": folder.name, "sizes": Sizes().to_dict(), "gates": {"ndcg_10": {"least": "much"}}}
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CheckFailed, match=r"manifest.json: gates: (.|\n)*ndcg_10.least"):
        judge_release(Release.open(folder), None)
