from __future__ import annotations

import pytest

from tools.load.stages import Look, Use, bottleneck, use
from tools.serving.server import Statistics


def used(stage: str, utilisation: float, queue_ms: float = 0.1, requests: float = 100.0) -> Use:
    return Use(stage, 2, requests, 1.0, queue_ms, 5.0, utilisation)


def test_a_stages_use_is_the_difference_of_two_looks() -> None:
    earlier = Look(Statistics(requests=100, executions=50, queue_ms=30, compute_ms=400), busy_ms=200)
    later = Look(Statistics(requests=500, executions=150, queue_ms=430, compute_ms=2400), busy_ms=1200)
    found = use("rank", 2, 1.0, earlier, later)
    assert found.requests_per_second == 400
    assert found.batch == 4
    assert found.queue_ms == 1
    assert found.compute_ms == 5
    # A second of executions, each counted once, in two instances.
    assert found.utilisation == pytest.approx(0.5)


def test_a_stage_that_nobody_asked_has_no_batch_and_no_times() -> None:
    look = Look(Statistics(5, 5, 1.0, 1.0), 1.0)
    found = use("rank", 1, 1.0, look, look)
    assert (found.queue_ms, found.compute_ms, found.utilisation) == (0, 0, 0)
    assert found.figures()["batch"] is None


def test_the_bottleneck_is_the_stage_whose_instances_are_busiest() -> None:
    stages = (used("lookup", 0.2), used("rank", 0.97, queue_ms=40), used("rerank", 0.4))
    found = bottleneck({each.stage: each for each in stages}, cpu=0.6)
    assert found is not None
    assert found.stage == "rank"
    assert (
        found.reason == "its 2 instances were executing 97 % of the time, and requests waited 40.0 ms for one"
    )


def test_a_full_machine_and_a_longer_queue_elsewhere_are_told() -> None:
    stages = (used("retrieve", 0.6, queue_ms=9), used("rank", 0.7, queue_ms=2))
    found = bottleneck({each.stage: each for each in stages}, cpu=0.99)
    assert found is not None
    assert found.stage == "rank"
    assert "longest queue: retrieve, 9.0 ms" in found.reason
    assert "the machine's CPU was 99 % used" in found.reason


def test_a_stage_that_nobody_asked_is_no_bottleneck() -> None:
    assert bottleneck({"rank": used("rank", 0.9, requests=0)}) is None
