"""The models here that RecBole's are compared with: fitted to the same events, asked the same question."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from python_backend.stages.retrieve import Retrieve
from tools.channels.channel import Material
from tools.channels.registry import fit_channel
from tools.config.build import BuildConfig
from tools.config.channels import ChannelConfig
from tools.config.rankers import PointwiseRanker, RankerConfig
from tools.data.dataset import Dataset
from tools.data.split import leave_one_out
from tools.evaluation.in_process import ask, inputs_of, reordered
from tools.evaluation.metrics import Items
from tools.rankers.training import fit_ranker
from tools.training.candidates import RankingExamples, out_of_fold_examples, retrieved_examples
from tools.training.features import Features
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import Progress

PLACES = 500
"""How long the lists are."""

TRANSFORMER, NEUMF, NEUMF_ALONE = "transformer", "neumf", "neumf, told no retrieval score"


@dataclass(frozen=True)
class Ours:
    """What is needed to fit the models of a configuration to all events but each user's last."""

    config: BuildConfig
    dataset: Dataset
    features: Features

    def lists(self, model: str, progress: Progress) -> Items:
        """The best `PLACES` unseen items of every user by the channel `model`, int32 ``[U, 500]``."""
        histories = leave_one_out(self.dataset.interactions).train_and_validation
        section = channel_section(self.config, model)
        material = Material(
            interactions=histories,
            features=self.features,
            titles=self.dataset.item_titles,
            history=self.config.sizes.history,
            seed=self.config.seed,
            item_vectors={},
            item_features=self.dataset.item_features,
        )
        sizes = replace(self.config.sizes, candidates=min(PLACES, histories.n_items))
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            fit_channel(section, material, progress).write(folder, sizes)
            channel = Retrieve.open(folder, candidates=sizes.candidates)
            candidate: Items = ask(channel, inputs_of(histories, self.features, sizes))["candidate"]
        return candidate

    def neural(self, progress: Progress) -> dict[str, Items]:
        """The lists of the transformer, and of NeuMF ranking the whole catalogue, by name.

        NeuMF is a ranker here, which is told what the transformer thinks of each item, and learns from the
        transformer's candidates. `NEUMF_ALONE` is not told, and learns from all items.
        """
        interactions = self.dataset.interactions
        split = leave_one_out(interactions)
        events, sizes, seed = split.train_and_validation, self.config.sizes, self.config.seed
        retriever, _ = train_retriever(
            events, self.features, self.config.retrieve, history=sizes.history, seed=seed, progress=progress
        )
        examples, _ = out_of_fold_examples(
            events,
            self.features,
            self.config.retrieve,
            self.config.rank,
            history=sizes.history,
            candidates=interactions.n_items,
            seed=seed,
            progress=progress,
        )
        asked = np.flatnonzero(split.test > 0)
        last = interactions.offsets[1:][asked] - 1
        catalogue = retrieved_examples(
            retriever,
            interactions,
            self.features,
            last,
            history=sizes.history,
            candidates=interactions.n_items,
        )
        lists = {TRANSFORMER: catalogue.candidates[:, :PLACES]}
        section = ranker_section(self.config, NEUMF)
        for name, learned, judged in (
            (NEUMF, _first(examples, sizes.candidates), catalogue),
            (NEUMF_ALONE, _blind(examples), _blind(catalogue)),
        ):
            ranker = fit_ranker(
                section, learned, self.features, history=sizes.history, seed=seed, progress=progress
            )
            lists[name] = reordered(judged.candidates, ranker.logits(judged))[:, :PLACES]
        return {name: _of_all(ranked, asked, interactions.n_users) for name, ranked in lists.items()}


def channel_section(config: BuildConfig, model: str) -> ChannelConfig:
    """The section of [[channels]] for `model`; where there is none, one with defaults."""
    given = next((channel for channel in config.channels if channel.model == model), None)
    adapter: TypeAdapter[ChannelConfig] = TypeAdapter(ChannelConfig)
    return given or adapter.validate_python({"model": model})


def ranker_section(config: BuildConfig, model: str) -> PointwiseRanker:
    """The section of [[rankers]] for the pointwise `model`; where there is none, one with defaults."""
    given = next((ranker for ranker in config.rankers if ranker.model == model), None)
    adapter: TypeAdapter[RankerConfig] = TypeAdapter(RankerConfig)
    section = given or adapter.validate_python({"model": model})
    assert isinstance(section, PointwiseRanker)
    return section


def _first(examples: RankingExamples, count: int) -> RankingExamples:
    """`examples` with the best `count` candidates alone."""
    return replace(
        examples,
        candidates=examples.candidates[:, :count],
        scores=examples.scores[:, :count],
        targets=np.where(examples.targets < count, examples.targets, -1),
    )


def _blind(examples: RankingExamples) -> RankingExamples:
    """`examples` with all scores 0, and candidates in the catalogue's order, so that it tells nothing."""
    order = np.argsort(examples.candidates, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")
    found = examples.targets >= 0
    rows = np.flatnonzero(found)
    targets = np.full_like(examples.targets, -1)
    targets[rows] = place[rows, examples.targets[rows]]
    return replace(
        examples,
        candidates=np.take_along_axis(examples.candidates, order, axis=1),
        scores=np.zeros_like(examples.scores),
        targets=targets,
    )


def _of_all(ranked: Items, asked: NDArray[np.int64], users: int) -> Items:
    """`ranked` of the users `asked` as rows of all users; others have an empty list."""
    lists = np.zeros((users, ranked.shape[1]), dtype=np.int32)
    lists[asked] = ranked
    return lists
