"""What every peer serves: the stages of a release, run by the release's own code, on the product's store.

This is the part of a hand-written service that is the same whatever framework carries it: load the models
once, take queries, give pages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

RELEASE, STORE, THREADS = "PEERS_RELEASE", "PEERS_STORE", "PEERS_THREADS"
"""Environment variables: the folder of the release, the URL of its store, ONNX Runtime's threads."""

Query = tuple[int, Sequence[int], float]
"""A user's id or -1, the items of the session, newest last, and the diversity."""


class Recommender:
    """A release's pipeline in this process."""

    def __init__(self, release: Path, store: str, threads: int = 1) -> None:
        # First on the path, as in model_repository/*/1/model.py: every side runs the release's own code.
        sys.path.insert(0, str(release / "code"))
        from python_backend.pipeline import Pipeline
        from python_backend.release import Release

        opened = Release.open(release)
        self._session = opened.sizes.session
        self._pipeline = Pipeline.load(opened, {"store_url": store, "threads": str(threads)})

    @classmethod
    def from_environment(cls) -> Recommender:
        """The recommender that the environment names."""
        return cls(Path(os.environ[RELEASE]), os.environ[STORE], int(os.environ.get(THREADS, "1")))

    def pages(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        """A page per query, computed as one batch: arrays `item_id`, `score`, `reason`, and `status`."""
        sessions = np.full((len(queries), self._session), -1, np.int64)
        for row, (_, items, _) in zip(sessions, queries, strict=True):
            row[: len(items)] = items
        inputs = {
            "user_id": np.array([[user] for user, _, _ in queries], np.int64),
            "session_items": sessions,
            "diversity": np.array([[diversity] for _, _, diversity in queries], np.float32),
        }
        self._pipeline.check(inputs)
        tensors = self._pipeline(inputs)
        names = ("item_id", "score", "reason")
        return [
            {name: tensors[name][row] for name in names} | {"status": int(tensors["status"][row, 0])}
            for row in range(len(queries))
        ]

    def plain_pages(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        """`pages` with lists instead of arrays, as JSON and pydantic want them."""
        return [
            {name: value if name == "status" else value.tolist() for name, value in page.items()}
            for page in self.pages(queries)
        ]
