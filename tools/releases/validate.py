"""Measuring a configuration on validation items, for tuning: the test items stay out of it."""

from __future__ import annotations

import numpy as np

from tools.config.build import BuildConfig
from tools.data.dataset import Dataset
from tools.data.split import leave_one_out
from tools.evaluation.metrics import hit_rate, ndcg, paired_ratio, recall
from tools.progress import Steps
from tools.training.candidates import retrieved_examples
from tools.training.features import Features
from tools.training.models import train_models
from tools.training.rank_training import rank_logits, target_places
from tools.training.retriever import HeldOut
from tools.training.teacher import teacher_of


def validate(config: BuildConfig, dataset: Dataset, steps: Steps) -> dict[str, float]:
    """Train without each user's last two events, measure on the first of them; the figures by name."""
    features, split = Features.of(dataset, config), leave_one_out(dataset.interactions)
    history, candidates = config.sizes.history, config.sizes.candidates
    teacher = teacher_of(config, dataset, held_out=2)
    held_out = HeldOut(split.train, split.validation)
    models = train_models(config, split.train, features, steps.step, held_out, teacher)
    asked = np.flatnonzero(split.validation > 0)
    # A validation item is the last but one of its user's events.
    events = dataset.interactions.offsets[1:][asked] - 2
    examples = retrieved_examples(
        models.retriever, dataset.interactions, features, events, history=history, candidates=candidates
    )
    retrieved = target_places(examples.scores, examples)
    ranked = target_places(rank_logits(models.ranker, examples, features), examples)
    gain = paired_ratio(ndcg(ranked, 10), ndcg(retrieved, 10))
    figures = {
        "retrieve NDCG@10": float(ndcg(retrieved, 10).mean()),
        "retrieve Recall@100": float(recall(retrieved, 100).mean()),
        "retrieve Recall@500": float(recall(retrieved, 500).mean()),
        "rank NDCG@10": float(ndcg(ranked, 10).mean()),
        "rank HR@10": float(hit_rate(ranked, 10).mean()),
        "rank ÷ retrieve": gain.mean,
    }
    for name, value in figures.items():
        print(f"  {name:<22} {value:.4f}")
    print(f"  95 % interval of the ratio: {gain.low:.3f} … {gain.high:.3f}")
    return figures
