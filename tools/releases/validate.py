"""Measuring a configuration on validation items, for tuning: the test items stay out of it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tools.channels.fitting import write_transformer
from tools.channels.merged import Channels
from tools.config.build import BuildConfig
from tools.config.rankers import MAIN
from tools.config.slots import name_of
from tools.data.dataset import Dataset
from tools.data.split import Split, leave_one_out
from tools.evaluation.metrics import hit_rate, ndcg, paired_ratio, ranks, recall
from tools.progress import Steps
from tools.releases.slots import material_of, retrieval_of, train_slots
from tools.training.candidates import RankingExamples, retrieved_examples
from tools.training.checkpoint import FOLDER, RANKER, RETRIEVER, write_checkpoint
from tools.training.evidence import Neighbours
from tools.training.features import Features
from tools.training.models import train_models
from tools.training.rank_training import rank_logits, target_places
from tools.training.ranker import Ranker
from tools.training.retriever import HeldOut, Retriever
from tools.training.teacher import teacher_of


@dataclass(frozen=True)
class Validation:
    """Models that were trained without each user's last two events, and the first of them to measure on."""

    retriever: Retriever
    ranker: Ranker
    features: Features
    split: Split
    examples: RankingExamples


def held_out_models(
    config: BuildConfig, dataset: Dataset, steps: Steps, kept: Path | None = None
) -> Validation:
    """Train without each user's last two events; the candidates for the first of them.

    The weights are written into the folder `kept`, and taken from there if they are there already. Raises
    ConfigError where `config` names a teacher that knows what is measured on.
    """
    features, split = Features.of(dataset, config), leave_one_out(dataset.interactions)
    history, candidates = config.sizes.history, config.sizes.candidates
    if kept is not None and (kept / FOLDER / RANKER).is_file():
        retriever = Retriever(config.retrieve, features, history)
        neighbours = Neighbours.of(split.train, config.rank.neighbours)
        ranker = Ranker(config.rank, features, history, neighbours)
        for name, model in ((RETRIEVER, retriever), (RANKER, ranker)):
            with np.load(kept / FOLDER / name) as weights:
                model.load_state_dict({key: torch.from_numpy(weights[key]) for key in weights})
            model.eval()
    else:
        held_out = HeldOut(split.train, split.validation)
        teacher = teacher_of(config, dataset, held_out=2)
        models = train_models(config, split.train, features, steps.step, held_out, teacher)
        retriever, ranker = models.retriever, models.ranker
        if kept is not None:
            write_checkpoint(kept, retriever, ranker)
    asked = np.flatnonzero(split.validation > 0)
    # A validation item is the last but one of its user's events.
    events = dataset.interactions.offsets[1:][asked] - 2
    examples = retrieved_examples(
        retriever, dataset.interactions, features, events, history=history, candidates=candidates
    )
    return Validation(retriever, ranker, features, split, examples)


def validate(config: BuildConfig, dataset: Dataset, steps: Steps) -> dict[str, float]:
    """Train without each user's last two events, measure on the first of them; the figures by name.

    Of several channels each is measured, and their merge; of several rankers that of [rank].
    """
    several = config.channels or config.rankers
    lists, found = (
        _slots(config, dataset, steps) if several else ({}, held_out_models(config, dataset, steps))
    )
    retrieved = target_places(found.examples.scores, found.examples)
    figures = {
        f"{name} {figure}": value for name, places in lists.items() for figure, value in _retrieval(places)
    }
    figures |= {f"retrieve {figure}": value for figure, value in _retrieval(retrieved)}
    ranked = None
    if not config.rankers or any(ranker.model == MAIN for ranker in config.rankers):
        ranked = target_places(rank_logits(found.ranker, found.examples, found.features), found.examples)
        gain = paired_ratio(ndcg(ranked, 10), ndcg(retrieved, 10))
        figures |= {
            "rank NDCG@10": float(ndcg(ranked, 10).mean()),
            "rank HR@10": float(hit_rate(ranked, 10).mean()),
            "rank ÷ retrieve": gain.mean,
        }
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"  {name:<{width}} {value:.4f}")
    if ranked is not None:
        print(f"  95 % interval of the ratio: {gain.low:.3f} … {gain.high:.3f}")
    return figures


def _retrieval(places: NDArray[np.int64]) -> list[tuple[str, float]]:
    return [
        ("NDCG@10", float(ndcg(places, 10).mean())),
        ("Recall@100", float(recall(places, 100).mean())),
        ("Recall@500", float(recall(places, 500).mean())),
    ]


def _slots(
    config: BuildConfig, dataset: Dataset, steps: Steps
) -> tuple[dict[str, NDArray[np.int64]], Validation]:
    """What `held_out_models` gives, and each channel's places of the validation items."""
    features, split = Features.of(dataset, config), leave_one_out(dataset.interactions)
    material = material_of(config, dataset, split.train, features)
    asked = np.flatnonzero(split.validation > 0)
    events = dataset.interactions.offsets[1:][asked] - 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "slots"
        folder.mkdir()
        models = train_slots(config, material, steps.step, folder)
        write_transformer(config.channels, models.retriever, features, config.sizes, folder)
        examples = retrieval_of(config, models.retriever, features, folder)(dataset.interactions, events)
        lists: dict[str, list[NDArray[np.int64]]] = {}
        if config.channels:
            channels = Channels(folder, config.channels)
            for part in channels.before(dataset.interactions, features, events, config.sizes):
                for channel in config.channels:
                    found = part.lists[f"candidate_{name_of(channel)}"]
                    lists.setdefault(name_of(channel), []).append(ranks(found, part.wanted))
    validation = Validation(models.retriever, models.ranker, features, split, examples)
    return {name: np.concatenate(parts) for name, parts in lists.items()}, validation
