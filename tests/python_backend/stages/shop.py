"""A small shop to rerank in: item index i has the wire id 100 + i.

Vectors are unit vectors along an axis and all numbers are sums of few powers of two, so that float32 computes
without rounding and a plain loop must find exactly the same pages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonrec_client.contract import Reason, Sizes

from python_backend.features import FeatureEncoder, FeatureField
from python_backend.release import Release
from python_backend.stages.rerank import Rerank

N_ITEMS = 12
RESULTS = 4
CANDIDATES = 8
FIRST_ID = 100
GENRES = [["a"], ["a"], ["a", "b"], ["b"], ["b"], ["c"], ["c"], ["c", "a"], ["d"], [], ["e"], ["e"]]
COLOURS = ["red", "red", "blue", "blue", "red", "green", "red", "blue", "red", "green", "red", "red"]
FEATURES = [{"genre": genre, "colour": colour} for genre, colour in zip(GENRES, COLOURS, strict=True)]
AXES = [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 5]
"""Items on the same axis are alike (cosine 1), all others are not at all (0)."""
LIFT = [0, 0.25, 0.5, 0.5, 0.75, 0.75, 0.75, 1, 1, 1, 1, 1]
SIMILARITY_WEIGHT, LIFT_WEIGHT = 2.0, 1.0


def make_release(folder: Path) -> Release:
    """A release with all that `rerank` reads."""
    sizes = Sizes(candidates=CANDIDATES, results=RESULTS, history=3, seen=6)
    (folder / "artifacts").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"release": "0123456789ab", "sizes": sizes.to_dict()}))
    encoder = FeatureEncoder.fit(
        [FeatureField("genre", "multi"), FeatureField("colour", "categorical")], FEATURES
    )
    vectors = np.zeros((N_ITEMS + 1, 6), np.float32)
    vectors[np.arange(1, N_ITEMS + 1), AXES] = 1
    np.savez(
        folder / "artifacts" / "items.npz",
        wire_id=np.array([-1, *range(FIRST_ID + 1, FIRST_ID + N_ITEMS + 1)], np.int64),
        lift=np.array([0, *LIFT], np.float32),
        codes=np.concatenate([np.zeros((1, encoder.width), np.int32), encoder.encode(FEATURES)]),
    )
    np.save(folder / "artifacts" / "item_vectors.npy", vectors)
    (folder / "artifacts" / "item_features.json").write_text(encoder.to_json())
    weights = {"similarity_weight": SIMILARITY_WEIGHT, "lift_weight": LIFT_WEIGHT}
    (folder / "artifacts" / "rerank.json").write_text(json.dumps(weights))
    return Release.open(folder)


@dataclass(frozen=True)
class Ask:
    """One request to `rerank`: item indices and their logits, best first."""

    items: Sequence[int]
    logits: Sequence[float]
    diversity: float = 0.0
    seen: Sequence[int] = ()
    history: Sequence[int] = (1,)
    lookup_status: int = 0


def batch_of(*asks: Ask) -> dict[str, np.ndarray[Any, Any]]:
    """The contract's tensors for `asks`."""

    def rows(values: list[list[float]], width: int, fill: float, dtype: type) -> np.ndarray[Any, Any]:
        return np.array([(row + [fill] * width)[:width] for row in values], dtype).reshape(-1, width)

    return {
        "candidate": rows([list(ask.items) for ask in asks], CANDIDATES, 0, np.int32),
        "rank_score": rows([list(ask.logits) for ask in asks], CANDIDATES, -1e4, np.float32),
        "history": rows([list(ask.history) for ask in asks], 3, 0, np.int32)[:, ::-1],
        "seen": rows([list(ask.seen) for ask in asks], 6, 0, np.int32),
        "lookup_status": np.array([[ask.lookup_status] for ask in asks], np.int32).reshape(-1, 1),
        "diversity": np.array([[ask.diversity] for ask in asks], np.float32).reshape(-1, 1),
    }


@dataclass(frozen=True)
class Page:
    """One row of the answer; items as indices, 0 for padding."""

    items: list[int]
    scores: list[float]
    reasons: list[Reason]
    status: int


def pages(stage: Rerank, *asks: Ask) -> list[Page]:
    """The pages for `asks`, computed in one batch."""
    inputs = batch_of(*asks)
    stage.check(inputs)
    answer = stage(inputs)
    return [
        Page(
            [0 if item == -1 else int(item) - FIRST_ID for item in answer["item_id"][row]],
            answer["score"][row].tolist(),
            [Reason(reason) for reason in answer["reason"][row]],
            int(answer["status"][row, 0]),
        )
        for row in range(len(asks))
    ]


def page(stage: Rerank, ask: Ask) -> Page:
    """The page for one request."""
    return pages(stage, ask)[0]
