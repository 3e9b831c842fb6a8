"""A small ranker in which every weight says something, and requests for it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "training"))  # the toy data are theirs

from toy import features_of, rank_config
from tritonrec_client.contract import Sizes

from python_backend.item_index import PADDING_SCORE
from tools.config.training import RankConfig
from tools.training.candidates import RankingExamples
from tools.training.evidence import Neighbours
from tools.training.ranker import Ranker

N_USERS, N_ITEMS = 12, 60
SIZES = Sizes(candidates=30, results=5, history=6, seen=N_ITEMS, session=2, user_features=2)
FEATURES = features_of(N_USERS, N_ITEMS)
RANK: RankConfig = rank_config(width=16, heads=2, crosses=2, hidden=24)


def neighbours() -> Neighbours:
    """Five of each item."""
    random = np.random.default_rng(0)
    items = np.stack([random.permutation(N_ITEMS)[:5] + 1 for _ in range(N_ITEMS + 1)]).astype(np.int32)
    weights = random.normal(size=items.shape).astype(np.float32)
    weights[0] = 0
    return Neighbours(items, weights)


def toy_ranker() -> Ranker:
    """As if it were trained: its correction is as large as differences between retrieval scores."""
    torch.manual_seed(3)
    model = Ranker(RANK, FEATURES, SIZES.history, neighbours())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if "correction" in name else 0.1))
        for embedding in (model.items.identity, model.items.features.embedding):
            embedding.weight[0] = 0
    return model.eval()


def toy_requests(count: int = 48) -> RankingExamples:
    """Histories of all lengths; every sixth request has fewer candidates than places."""
    random = np.random.default_rng(1)
    histories = random.integers(1, N_ITEMS + 1, (count, SIZES.history))
    histories *= np.arange(SIZES.history) >= random.integers(0, SIZES.history + 1, count)[:, None]
    candidates = np.stack([random.permutation(N_ITEMS)[: SIZES.candidates] + 1 for _ in range(count)])
    scores = -np.sort(random.exponential(3, candidates.shape))
    candidates[::6, 20:], scores[::6, 20:] = 0, PADDING_SCORE
    return RankingExamples(
        users=random.integers(0, N_USERS, count),
        histories=histories.astype(np.int32),
        candidates=candidates.astype(np.int32),
        scores=scores.astype(np.float32),
        targets=random.integers(0, 20, count),
    )
