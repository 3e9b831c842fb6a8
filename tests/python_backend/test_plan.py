"""A release's steps, as it says them itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tritonrec_client.contract import MODELS, STAGES, Sizes

from python_backend.plan import PLAN, Plan, Step
from python_backend.release import Release

SIZES = Sizes(candidates=60, results=10, history=12, seen=64, session=5, user_features=6)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    (tmp_path / "artifacts").mkdir()
    return Release("00ab12cd34ef", SIZES, tmp_path)


def test_a_release_without_a_plan_has_the_contracts_stages(release: Release) -> None:
    plan = Plan.of(release)
    assert [step.model for step in plan.steps] == [stage.name for stage in STAGES]
    for step, stage in zip(plan.steps, STAGES, strict=True):
        assert [port.name for port in step.inputs] == [tensor.name for tensor in stage.inputs]
        assert [port.width for port in step.outputs] == [tensor.resolve(SIZES) for tensor in stage.outputs]
        assert step.release(release).artifacts.resolve() == release.artifacts.resolve()


def test_a_plan_that_was_written_is_read_again(release: Release) -> None:
    few = Sizes(**SIZES.to_dict() | {"candidates": 20})
    whole = Step.of(MODELS["retrieve"], few)
    channel = replace(whole, model="retrieve_ease", folder="retrieve_ease")
    plan = Plan((*Plan.default(SIZES).steps, channel))
    (release.artifacts / PLAN).write_text(plan.to_json())
    assert Plan.of(release) == plan


def test_a_step_sees_its_own_files_and_widths(release: Release) -> None:
    step = Step("retrieve_ease", "retrieve", (), (), 7, "retrieve_ease")
    own = step.release(release)
    assert own.artifacts == release.artifacts / "retrieve_ease"
    assert (own.sizes.candidates, own.sizes.results, own.sizes.history) == (7, 7, SIZES.history)


@pytest.mark.parametrize("content", ["{", "[1]", json.dumps([{"model": "retrieve"}])])
def test_a_file_that_is_no_plan_is_refused_by_its_path(release: Release, content: str) -> None:
    (release.artifacts / PLAN).write_text(content)
    with pytest.raises(ValueError, match=r"plan\.json: not a plan"):
        Plan.of(release)
