"""Trained weights in a release, from which a refresh goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from python_backend.features import FeatureEncoder
from python_backend.release import Release
from tools.checks import CheckFailed
from tools.config.build import BuildConfig, ConfigError
from tools.data.dataset import Dataset
from tools.training.features import Features
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

FOLDER = "training"
RETRIEVER, RANKER = "retriever.npz", "ranker.npz"
BY_ITEM = frozenset({"items.identity.weight", "bias"})
"""Weights with a row for each item; everything else has the same form for every catalogue."""

Weights = dict[str, NDArray[np.float32]]


class NoCheckpointError(CheckFailed):
    """A release that holds no weights to go on from."""


def write_checkpoint(release: Path, retriever: nn.Module, ranker: nn.Module) -> None:
    """Write both models' weights into the release folder `release`; the same weights give the same bytes."""
    folder = release / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in ((RETRIEVER, retriever), (RANKER, ranker)):
        np.savez(folder / name, **{key: value.numpy() for key, value in model.state_dict().items()})


@dataclass(frozen=True)
class Checkpoint:
    """The models of an earlier release, for a catalogue that may have changed since.

    Attributes:
        release: which one.
        item_ids: int64 ``[I + 1]``, the wire ids of its items by item index, -1 at 0.
        retriever, ranker: their weights by name.
    """

    release: Release
    item_ids: NDArray[np.int64]
    retriever: Weights
    ranker: Weights

    @classmethod
    def of(cls, release: Release) -> Self:
        """The checkpoint in `release`. Raises NoCheckpointError where there is none."""
        try:
            with np.load(release.artifacts / "items.npz") as items:
                item_ids = items["wire_id"]
            retriever, ranker = (dict(np.load(release.path / FOLDER / name)) for name in (RETRIEVER, RANKER))
        except (OSError, ValueError, KeyError) as error:
            raise NoCheckpointError(
                f"release {release.name} holds no weights to go on from: {error}"
            ) from error
        return cls(release, item_ids, retriever, ranker)

    def features(self, dataset: Dataset, config: BuildConfig) -> Features:
        """`dataset` in the codes that these models learned: values they never met count as unknown.

        Raises ConfigError where the configuration names other features than those of the release.
        """
        encoders = {}
        for table, name in ((config.data.users, "user_features"), (config.data.items, "item_features")):
            encoder = FeatureEncoder.from_json((self.release.artifacts / f"{name}.json").read_text("utf-8"))
            learned = [(field.name, field.kind) for field in encoder.fields]
            wanted = [(field.name, field.kind) for field in (table.fields if table else ())]
            if learned != wanted:
                raise ConfigError(
                    [
                        f"{name}: found {_listed(wanted)}; release {self.release.name} was trained with"
                        f" {_listed(learned)}: build without --refresh"
                    ]
                )
            encoders[name] = encoder
        return Features.coded(dataset, encoders["user_features"], encoders["item_features"])

    def rows_of(self, item_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each of `item_ids` stands in this catalogue; 0 for an item that it does not have."""
        return rows_by_id(item_ids, self.item_ids)

    def load_retriever(self, model: Retriever, item_ids: NDArray[np.int64]) -> None:
        """Give `model`, whose items are `item_ids`, the retriever's weights; new items keep theirs."""
        self._load(model, self.retriever, item_ids)

    def load_ranker(self, model: Ranker, item_ids: NDArray[np.int64]) -> None:
        """The same for the ranker."""
        self._load(model, self.ranker, item_ids)

    def _load(self, model: nn.Module, weights: Weights, item_ids: NDArray[np.int64]) -> None:
        rows = self.rows_of(item_ids)
        known = np.flatnonzero(rows)
        state = model.state_dict()
        problems = sorted(weights.keys() ^ state.keys())
        for name in weights.keys() & state.keys():
            weight = torch.from_numpy(weights[name])
            if name in BY_ITEM and weight.shape[1:] == state[name].shape[1:]:
                state[name][known] = weight[rows[known]]
            elif weight.shape == state[name].shape:
                state[name] = weight
            else:
                problems.append(f"{name} is {list(weight.shape)}, now {list(state[name].shape)}")
        if problems:
            raise ConfigError(
                [
                    f"the models of release {self.release.name} have another form than [retrieve], [rank] and"
                    f" [contract] say now ({'; '.join(problems)}): build without --refresh"
                ]
            )
        model.load_state_dict(state)


def rows_by_id(wanted: NDArray[np.int64], item_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of `wanted` stands in the catalogue `item_ids`; 0 for an item that it does not have."""
    order = np.argsort(item_ids)
    places = np.minimum(np.searchsorted(item_ids, wanted, sorter=order), len(order) - 1)
    rows = order[places]
    return np.where((item_ids[rows] == wanted) & (wanted >= 0), rows, 0)


def _listed(fields: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in fields) or "no features"
