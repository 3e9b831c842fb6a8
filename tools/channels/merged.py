"""Channels and their merge in this process, as they are served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import CANDIDATE, RETRIEVAL_SCORE, FoundBy, Sizes

from python_backend.stages.merge import Merge, Voice, Weights
from python_backend.stages.retrieve import Retrieve
from tools.config.channels import ChannelConfig
from tools.config.slots import name_of
from tools.data.interactions import Interactions
from tools.training.candidates import RankingExamples, concatenate
from tools.training.features import Features
from tools.training.windows import histories_before

BATCH = 64


@dataclass(frozen=True)
class ChannelLists:
    """What every channel gave at some moments.

    Attributes:
        users: int64 ``[n]``, user rows.
        histories: int32 ``[n, L]``.
        lists: `candidate_<channel>` int32 and `retrieval_score_<channel>` float32 ``[n, quota]`` of each.
        wanted: int32 ``[n]``, the item that came next.
    """

    users: NDArray[np.int64]
    histories: NDArray[np.int32]
    lists: dict[str, NDArray[Any]]
    wanted: NDArray[np.int32]

    def rows_of(self, rows: NDArray[np.bool_]) -> ChannelLists:
        """Some of the moments, bool ``[n]``."""
        lists = {name: array[rows] for name, array in self.lists.items()}
        return ChannelLists(self.users[rows], self.histories[rows], lists, self.wanted[rows])


class Channels:
    """The channels of a folder, asked one after the other."""

    def __init__(self, folder: Path, channels: Sequence[ChannelConfig], *, threads: int = 1) -> None:
        """`folder` holds ``retrieve_<channel>`` for each of `channels`."""
        self._stages = {
            name_of(channel): Retrieve.open(
                folder / f"retrieve_{name_of(channel)}", candidates=channel.quota, threads=threads
            )
            for channel in channels
        }

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every channel's list for the inputs of `retrieve`, under its own names."""
        lists = {}
        for name, stage in self._stages.items():
            for tensor, array in stage(inputs).items():
                lists[f"{tensor}_{name}"] = array
        return lists

    def before(
        self, interactions: Interactions, features: Features, events: NDArray[np.int64], sizes: Sizes
    ) -> Iterator[ChannelLists]:
        """What the channels would have given just before each of `events`, batch by batch."""
        owners = np.repeat(np.arange(interactions.n_users), interactions.lengths)
        for begin in range(0, len(events), BATCH):
            chosen = events[begin : begin + BATCH]
            users = owners[chosen]
            inputs = {
                "user_features": features.users[users],
                "history": histories_before(interactions, users, chosen, sizes.history),
                "seen": histories_before(interactions, users, chosen, sizes.seen),
            }
            yield ChannelLists(users, inputs["history"], self(inputs), interactions.items[chosen])


def merged_examples(merge: Merge, lists: Iterable[ChannelLists], sizes: Sizes) -> RankingExamples:
    """What `merge` makes of the channels' `lists`, moment by moment."""
    nothing = np.zeros((0, sizes.candidates), dtype=np.int32)
    parts = [
        RankingExamples(
            np.zeros(0, dtype=np.int64),
            np.zeros((0, sizes.history), dtype=np.int32),
            nothing,
            nothing.astype(np.float32),
            np.zeros(0, dtype=np.int64),
        )
    ]
    for found in lists:
        merged = merge(found.lists)
        candidates, scores = merged[CANDIDATE.name], merged[RETRIEVAL_SCORE.name]
        hit = candidates == found.wanted[:, None]
        targets = np.where(hit.any(axis=1), hit.argmax(axis=1), -1)
        parts.append(RankingExamples(found.users, found.histories, candidates, scores, targets))
    return concatenate(parts)


def plain_merge(channels: Sequence[ChannelConfig], constant: float, candidates: int) -> Merge:
    """Weighted reciprocal rank fusion of `channels`, as their sections weigh them."""
    voices = [
        Voice(name_of(channel), FoundBy[channel.model.upper()], Weights(reciprocal=channel.weight))
        for channel in channels
    ]
    return Merge(voices, constant, candidates)
