"""What became of requests, and how good the pages were, for Triton's metrics.

Triton counts failures of its own, and among them requests that made no sense, or whose answer would have come
too late. Here they are told apart, and degraded pages, which are no failures, are counted by what was
degraded. As in `python_backend.metrics`, counts are handed over by a thread, away from requests.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import datetime
from typing import Any

from tritonrec_client.contract import Status

from python_backend.metrics import EVERY
from python_backend.release import MANIFEST, Release
from python_backend.stages.base import Array

ANSWERED, INVALID, LATE, UNAVAILABLE, FAILED = "answered", "invalid", "late", "unavailable", "failed"
"""Outcomes: an answer; a bad request; refused, since its answer would be too late; what the stage needs is
not there; the stage broke down."""

REQUESTS = "tritonrec_requests_total"
PAGES = "tritonrec_pages_total"
CREATED = "tritonrec_release_created_seconds"


class Outcomes:
    """Counts of one model of a release.

    ``tritonrec_requests_total`` has the labels stage, release and outcome; ``tritonrec_pages_total`` release
    and status, a name of `Status` in lower case, where a page may count under several; the gauge
    ``tritonrec_release_created_seconds`` says when the release was built, in unix seconds. `family_type` is
    Triton's MetricFamily.
    """

    def __init__(self, stage: str, release: Release, family_type: Any, *, every: float = EVERY) -> None:
        self._stage, self._release = stage, release.name
        self._requests, self._pages = (
            family_type(name=name, description=description, kind=family_type.COUNTER)
            for name, description in (
                (REQUESTS, "Requests by what became of them"),
                (PAGES, "Pages by what was degraded"),
            )
        )
        created = family_type(name=CREATED, description="When the release was built", kind=family_type.GAUGE)
        self._created = created.Metric(labels={"release": release.name})
        self._created.set(created_at(release))
        self._family = created  # a metric ends with its family
        self._counters: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()
        self._outcomes: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._hand_over_regularly, daemon=True)
        self._thread.start()

    def count(self, outcome: str, requests: int = 1) -> None:
        """That `requests` more had this outcome."""
        with self._lock:
            self._outcomes[outcome] += requests

    def count_pages(self, status: Array) -> None:
        """Pages by their `status`, int32 ``[B, 1]``."""
        with self._lock:
            self._statuses.update(status.ravel().tolist())

    def close(self) -> None:
        """Hand over what is left, and end."""
        self._ended.set()
        self._thread.join()
        self._hand_over()

    def _hand_over_regularly(self) -> None:
        while not self._ended.wait(self._every):
            self._hand_over()

    def _hand_over(self) -> None:
        with self._lock:
            outcomes, self._outcomes = self._outcomes, Counter()
            statuses, self._statuses = self._statuses, Counter()
        for outcome, count in outcomes.items():
            self._add(self._requests, count, stage=self._stage, outcome=outcome)
        for value, count in statuses.items():
            for bit in Status(value) or [Status.OK]:
                self._add(self._pages, count, status=str(bit.name).lower())

    def _add(self, family: Any, count: int, **labels: str) -> None:
        key = tuple(labels.values())
        if key not in self._counters:
            self._counters[key] = family.Metric(labels={**labels, "release": self._release})
        self._counters[key].increment(count)


def created_at(release: Release) -> float:
    """When `release` was built, in unix seconds; 0 where its manifest does not say."""
    content = json.loads((release.path / MANIFEST).read_text(encoding="utf-8"))
    try:
        return datetime.fromisoformat(content["created"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0
