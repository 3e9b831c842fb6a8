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
from tools.data.interactions import Interactions
from tools.data.split import leave_one_out
from tools.evaluation.metrics import Items
from tools.rankers.training import fit_ranker
from tools.releases.in_process import ask, inputs_of, reordered
from tools.training.candidates import (
    RankingExamples,
    concatenate,
    newest_counts,
    out_of_fold_examples,
    retrieved_examples,
    seen_before,
)
from tools.training.features import Features
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import Progress
from tools.training.windows import histories_before

PLACES = 500
"""How long the lists are."""

TRANSFORMER, NEUMF, NEUMF_ALONE = "transformer", "neumf", "neumf, told no retrieval score"
ALONE = {"epochs": 15, "learning_rate": 5e-3}
"""How NeuMF is trained where no retrieval score gives it a start; chosen on validation items."""

AT_ONCE = 2048
"""Moments whose items are drawn at once."""


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
        transformer's candidates.
        """
        interactions, sizes, seed = self.dataset.interactions, self.config.sizes, self.config.seed
        events = leave_one_out(interactions).train_and_validation
        retriever, _ = train_retriever(
            events, self.features, self.config.retrieve, history=sizes.history, seed=seed, progress=progress
        )
        examples, _ = out_of_fold_examples(
            events,
            self.features,
            self.config.retrieve,
            self.config.rank,
            history=sizes.history,
            candidates=sizes.candidates,
            seed=seed,
            progress=progress,
        )
        catalogue = retrieved_examples(
            retriever,
            interactions,
            self.features,
            self._last_events(),
            history=sizes.history,
            candidates=interactions.n_items,
        )
        section = ranker_section(self.config, NEUMF)
        return {
            TRANSFORMER: self._of_all(catalogue.candidates[:, :PLACES]),
            NEUMF: self._ranked(section, examples, catalogue, progress),
        }

    def neumf_alone(self, progress: Progress) -> Items:
        """The lists of a NeuMF that no retriever tells anything, and that learns from all items."""
        interactions, config = self.dataset.interactions, self.config
        events = leave_one_out(interactions).train_and_validation
        newer = np.repeat(newest_counts(events, config.rank), events.lengths)
        ends = np.repeat(events.offsets[1:], events.lengths)
        learned = np.flatnonzero(np.arange(events.n_events) >= ends - newer)
        return self._ranked(
            ranker_section(config, NEUMF).model_copy(update=ALONE),
            all_items(events, learned, config.sizes.history, config.seed),
            all_items(interactions, self._last_events(), config.sizes.history, config.seed),
            progress,
        )

    def _ranked(
        self,
        section: PointwiseRanker,
        learned: RankingExamples,
        judged: RankingExamples,
        progress: Progress,
    ) -> Items:
        history, seed = self.config.sizes.history, self.config.seed
        ranker = fit_ranker(section, learned, self.features, history=history, seed=seed, progress=progress)
        return self._of_all(reordered(judged.candidates, ranker.logits(judged))[:, :PLACES])

    def _last_events(self) -> NDArray[np.int64]:
        """The places of the test items among all events."""
        interactions = self.dataset.interactions
        asked = np.flatnonzero(leave_one_out(interactions).test > 0)
        return interactions.offsets[1:][asked] - 1

    def _of_all(self, ranked: Items) -> Items:
        """`ranked` of the users with a test item as rows of all users; others have an empty list."""
        interactions = self.dataset.interactions
        lists = np.zeros((interactions.n_users, ranked.shape[1]), dtype=np.int32)
        lists[leave_one_out(interactions).test > 0] = ranked
        return lists


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


def all_items(
    interactions: Interactions, events: NDArray[np.int64], history: int, seed: int
) -> RankingExamples:
    """Just before each of `events` all items that the user had not met, in a random order, without scores."""
    random = np.random.default_rng(seed)
    owners = np.repeat(np.arange(interactions.n_users), interactions.lengths)
    parts = []
    for begin in range(0, len(events), AT_ONCE):
        chosen = events[begin : begin + AT_ONCE]
        users, rows = owners[chosen], np.arange(len(chosen))[:, None]
        keys = random.random((len(chosen), interactions.n_items), dtype=np.float32)
        items = np.argsort(keys, axis=1).astype(np.int32) + 1
        met = np.zeros((len(chosen), interactions.n_items + 1), dtype=bool)
        met[rows, seen_before(interactions, users, chosen)] = True
        items[met[rows, items]] = 0
        parts.append(
            RankingExamples(
                users,
                histories_before(interactions, users, chosen, history),
                items,
                np.zeros(items.shape, dtype=np.float32),
                (items == interactions.items[chosen][:, None]).argmax(axis=1),
            )
        )
    return concatenate(parts)
