"""Counting what became of requests, with families that keep what they are told as Triton's do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tritonrec_client.contract import Sizes, Status

from python_backend.outcomes import ANSWERED, CREATED, LATE, PAGES, REQUESTS, Outcomes, created_at
from python_backend.release import Release

NAME = "0123456789ab"


class Metric:
    def __init__(self) -> None:
        self.value = 0.0

    def increment(self, value: float) -> None:
        self.value += value

    def set(self, value: float) -> None:
        self.value = value


class Family:
    """Shared between processes of a server: series of one name and labels are one."""

    COUNTER, GAUGE = "counter", "gauge"
    series: dict[tuple[str, ...], Metric]

    def __init__(self, name: str, description: str, kind: str) -> None:
        self._name = name

    def Metric(self, labels: dict[str, str]) -> Metric:  # noqa: N802
        key = (self._name, *(f"{name}={labels[name]}" for name in sorted(labels)))
        return self.series.setdefault(key, Metric())


@pytest.fixture
def release(tmp_path: Path) -> Release:
    manifest = {"release": NAME, "sizes": Sizes().to_dict(), "created": "2026-01-02T03:04:05+00:00"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return Release.open(tmp_path)


@pytest.fixture
def outcomes(release: Release) -> Outcomes:
    Family.series = {}
    return Outcomes("rank", release, Family)


def values() -> dict[tuple[str, ...], float]:
    return {key: metric.value for key, metric in Family.series.items()}


def test_requests_are_counted_by_what_became_of_them(outcomes: Outcomes) -> None:
    outcomes.count(ANSWERED)
    outcomes.count(ANSWERED)
    outcomes.count(LATE, 3)
    outcomes.close()

    assert values()[REQUESTS, "outcome=answered", f"release={NAME}", "stage=rank"] == 2
    assert values()[REQUESTS, "outcome=late", f"release={NAME}", "stage=rank"] == 3


def test_a_page_counts_under_everything_that_was_degraded_and_else_as_ok(outcomes: Outcomes) -> None:
    both = Status.UNKNOWN_USER | Status.SHORT_PAGE
    outcomes.count_pages(np.array([[0], [0], [int(both)]], np.int32))
    outcomes.close()

    pages = {key[2]: value for key, value in values().items() if key[0] == PAGES}
    assert pages == {"status=ok": 2, "status=unknown_user": 1, "status=short_page": 1}


def test_it_says_when_the_release_was_built(outcomes: Outcomes, release: Release) -> None:
    outcomes.close()

    assert values()[CREATED, f"release={NAME}"] == created_at(release) == 1767323045


def test_a_release_that_does_not_say_when_it_was_built_counts_as_very_old(release: Release) -> None:
    (release.path / "manifest.json").write_text(json.dumps({"release": NAME, "sizes": Sizes().to_dict()}))

    assert created_at(release) == 0
