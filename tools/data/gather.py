"""Everything that a build learns from: the files, and what the event log adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from python_backend.stores import EventLog, open_event_log
from tools.config.build import BuildConfig
from tools.data.dataset import Dataset, load_dataset
from tools.data.feedback import Feedback, read_feedback, with_feedback, without_forgotten
from tools.data.impressions import Shown, count_shown
from tools.data.pseudonyms import pseudonymised
from tools.data.table import Progress

PATIENCE = 10.0
"""Seconds that a build waits for the store: longer than a request would."""


@dataclass(frozen=True)
class Gathered:
    """A build's data.

    Attributes:
        dataset: the files without the people who were forgotten; with the log's events where they were asked
            for.
        feedback: the log's events, where they were asked for.
        gained: int64 ``[U]``, how many fresh events each user of the data set has.
        forgotten: who has asked to be forgotten so far: user id → unix seconds.
        shown: how often the log's users were shown each item, and took it; None where nothing is explored.
    """

    dataset: Dataset
    feedback: Feedback | None
    gained: NDArray[np.int64]
    forgotten: Mapping[int, int]
    shown: Shown | None = None

    @classmethod
    def from_files(
        cls, dataset: Dataset, forgotten: Mapping[int, int] | None = None, shown: Shown | None = None
    ) -> Self:
        """`dataset` without events from a log."""
        return cls(
            dataset, None, np.zeros(dataset.interactions.n_users, dtype=np.int64), forgotten or {}, shown
        )


def open_log(config: BuildConfig) -> EventLog:
    """The event log beside the records in ``config.store``, opened when it is first used."""
    return open_event_log(config.store.url, timeout=PATIENCE, require_durable=False)


def gather(
    config: BuildConfig, progress: Progress | None = None, *, learn: bool = False, since: str = ""
) -> Gathered:
    """Read the files, and from the log who is to be left out.

    With `learn` the log's events are added; those logged after its position `since` are fresh. Raises
    DataProblems, ConfigError and StoreUnavailable.
    """
    dataset = load_dataset(config, progress)
    if config.privacy.pseudonyms:
        dataset = pseudonymised(dataset)
    with open_log(config) as log:
        explored = config.rerank.exploration.places
        shown = count_shown(log, dataset.interactions.item_ids) if explored else None
        if not learn:
            forgotten = log.forgotten()
            return Gathered.from_files(without_forgotten(dataset, forgotten), forgotten, shown)
        feedback = read_feedback(log, config.feedback.kinds, since)
    dataset, gained = with_feedback(dataset, feedback, config.data.events.repeats)
    return Gathered(dataset, feedback, gained, feedback.forgotten, shown)
