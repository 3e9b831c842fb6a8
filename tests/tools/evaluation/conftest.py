from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tritonrec_client.contract import Sizes

from tools.data.interactions import Interactions
from tools.evaluation.baselines import baseline_lists
from tools.evaluation.evaluation import STAGES, Evaluation

N_ITEMS = 130


def make_interactions(*users: list[int], n_items: int) -> Interactions:
    """Histories as lists of item indices."""
    lengths = [len(items) for items in users]
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([item for items in users for item in items], dtype=np.int32),
        timestamps=np.concatenate([np.arange(length) for length in lengths]).astype(np.int64),
        user_ids=np.arange(len(users), dtype=np.int64),
        item_ids=np.arange(-1, n_items, dtype=np.int64),
    )


@pytest.fixture(scope="session")
def interactions() -> Callable[..., Interactions]:
    return make_interactions


@pytest.fixture(scope="session")
def make_evaluation() -> Callable[..., Evaluation]:
    """A function that makes an evaluation of a small, random release; keywords replace its parts."""
    random = np.random.default_rng(0)
    users = [random.choice(N_ITEMS, random.integers(3, 30), replace=False) + 1 for _ in range(60)]
    events = make_interactions(*[list(items) for items in users], n_items=N_ITEMS)
    history, targets = events.without_last(1), events.last()
    candidates = np.argsort(random.random((60, N_ITEMS)), axis=1)[:, :100].astype(np.int32) + 1
    page = candidates[:, :20]
    parts = {
        "release": "0123456789ab",
        "name": "tiny",
        "trained_on": "Every event but each user's last.",
        "seed": 1,
        "sizes": Sizes(candidates=100),
        "n_users": 60,
        "n_items": N_ITEMS,
        "n_events": events.n_events,
        "data_range": (0, 86_400),
        "targets": targets,
        "history_lengths": history.lengths,
        "stages": dict(zip(STAGES, (candidates, candidates[:, ::-1], page, page[:, ::-1]), strict=True)),
        "baselines": baseline_lists(history, 100).lists,
        "popularity": history.popularity(),
        "item_vectors": random.normal(size=(N_ITEMS + 1, 4)),
        "page_probability": random.random(page.shape) / 10,
        "curves": {
            "retrieve": [{"epoch": 1, "loss": 2.0, "validation_ndcg_10": 0.1}, {"epoch": 2, "loss": 1.5}]
        },
        "timings": {"train": 61.0, "export": 0.5},
        "library_versions": {"numpy": "1.26.4"},
    }
    return lambda **replaced: Evaluation(**{**parts, **replaced})
