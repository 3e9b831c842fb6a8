"""A large model as a file, and as the teacher of a small one."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from python_backend.features import FeatureEncoder
from tools.config.build import BuildConfig, ConfigError
from tools.config.training import DistilConfig, RetrieveConfig
from tools.data.dataset import Dataset
from tools.data.interactions import Interactions
from tools.training.checkpoint import BY_ITEM, rows_by_id
from tools.training.features import Features
from tools.training.lesson import Lesson
from tools.training.retriever import Retriever
from tools.training.windows import histories_before

Rows = NDArray[np.int64]

KEY = "retrieve.distil.teacher"
FORMAT = 1


def save_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` with torch.save in one step: whoever is killed meanwhile leaves the old file.

    It is on disk when this returns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(f".{path.name}.*"):
        left_over.unlink()
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_teacher(
    path: Path,
    model: Retriever,
    features: Features,
    config: BuildConfig,
    dataset: Dataset,
    held_out: int,
    settings: Mapping[str, Any],
) -> None:
    """Write `model` as a file that a small one can be distilled from.

    `held_out` says how many of each user's newest events it was not trained on, `settings` what the run was
    made of.
    """
    content = {
        "format": FORMAT,
        "settings": json.dumps(settings),
        "retrieve": config.retrieve.model_dump_json(exclude={"distil"}),
        "history": config.sizes.history,
        "held_out": held_out,
        "item_ids": torch.from_numpy(dataset.interactions.item_ids),
        "user_features": features.user_encoder.to_json(),
        "item_features": features.item_encoder.to_json(),
        "item_vectors": {name: vectors.shape[1] for name, vectors in features.vectors.items()},
        "weights": {name: weight.cpu() for name, weight in model.state_dict().items()},
    }
    save_whole(path, content)


@dataclass(frozen=True)
class Teacher:
    """A trained model that says, for every event of a data set, what it would have expected.

    Attributes:
        model: for the items and item indices of that data set.
        features: of that data set, in the codes that the model learned.
        history: how many items it looks back on.
        unknown: bool ``[I + 1]``, items that it was not trained with.
    """

    model: Retriever
    features: Features
    history: int
    unknown: Tensor
    config: DistilConfig

    @classmethod
    def open(cls, config: DistilConfig, dataset: Dataset, *, held_out: int) -> Self:
        """The teacher in the file that `config` names, for `dataset`.

        `held_out` of each user's newest events must be new to it: it would hand them on otherwise. Raises
        ConfigError where the file is no such teacher.
        """
        path = config.teacher
        wanted = "allowed: a model.pt that tools/train_large.py wrote"
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}, not {FORMAT}")
            retrieve = RetrieveConfig.model_validate(json.loads(content["retrieve"]))
            history, known = int(content["history"]), int(content["held_out"])
            item_ids, weights = content["item_ids"].numpy(), content["weights"]
            users, items = (
                FeatureEncoder.from_json(content[name]) for name in ("user_features", "item_features")
            )
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError([f"{KEY}: found '{path}': {reason}; {wanted}"]) from error
        if known < held_out:
            raise ConfigError(
                [
                    f"{KEY}: '{path}' has learned from all but the newest {known} events of each user; it"
                    f" must not know the newest {held_out}, which are measured on: train it with --validate"
                ]
            )
        features = Features.coded(dataset, users, items)
        try:
            features = features.with_vectors(content.get("item_vectors", {}))
        except ValueError as error:
            raise ConfigError(
                [f"{KEY}: '{path}' was trained with more than the data bring: {error}"]
            ) from error
        rows = rows_by_id(dataset.interactions.item_ids, item_ids)
        model = Retriever(retrieve, features, history)
        state = model.state_dict()
        for name, weight in weights.items():
            if name in BY_ITEM:
                state[name].zero_()
                state[name][rows > 0] = weight[rows[rows > 0]]
            else:
                state[name] = weight
        model.load_state_dict(state)
        unknown = torch.from_numpy(rows == 0)
        return cls(model.eval().requires_grad_(False), features, history, unknown, config)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return replace(self, model=self.model.to(device), unknown=self.unknown.to(device))

    @cached_property
    def vectors(self) -> Tensor:
        """Its item vectors, float ``[I + 1, e]``."""
        with torch.no_grad():
            return self.model.items()

    @torch.no_grad()
    def queries(self, interactions: Interactions, batch: int = 64) -> Tensor:
        """The query vector just before each event, float16 ``[n_events, e]``, on the CPU.

        Each rests on half of the model's history at least, where a user has as much.
        """
        vectors, device = self.vectors, self.unknown.device
        found = torch.zeros(interactions.n_events, vectors.shape[1], dtype=torch.float16)
        users, ends, firsts = _pieces(interactions, self.history)
        lengths = np.minimum(ends - interactions.offsets[users], self.history)
        order = np.argsort(lengths, kind="stable")
        for begin in range(0, len(order), batch):
            rows = order[begin : begin + batch]
            width = int(lengths[rows].max())
            histories = torch.from_numpy(
                histories_before(interactions, users[rows], ends[rows] - 1, width)
            ).to(device)
            codes = torch.from_numpy(self.features.users[users[rows]]).to(device)
            queries = self.model.tower(codes, histories, vectors[histories]).to(torch.float16).cpu()
            events = ends[rows][:, None] - width + np.arange(width)
            new = events >= firsts[rows][:, None]
            found[torch.from_numpy(events[new])] = queries[torch.from_numpy(new)]
        return found

    def lesson(self, queries: Tensor) -> Lesson:
        """What it says about a batch whose positions have `queries`, float16 ``[B, L, e]``."""
        return Lesson(
            queries.to(self.vectors),
            self.vectors,
            self.model.bias,
            self.unknown,
            self.config.weight,
            self.config.temperature,
        )


def _pieces(interactions: Interactions, length: int) -> tuple[Rows, Rows, Rows]:
    """Overlapping pieces of users' events: int64 users, ends, and the first event that is new in each.

    A piece holds up to `length` events; the first half of it is there to be looked back on, but for a user's
    first piece. Ends and firsts count among all events.
    """
    stride = max(length // 2, 1)
    lengths = interactions.lengths
    counts = np.where(lengths > 0, 1 + np.maximum(-(-(lengths - length) // stride), 0), 0)
    users = np.repeat(np.arange(interactions.n_users), counts)
    number = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = np.minimum(length + number * stride, lengths[users])
    firsts = np.where(number > 0, length + (number - 1) * stride, 0)
    base = interactions.offsets[users]
    return users, base + ends, base + firsts


def teacher_of(config: BuildConfig, dataset: Dataset, *, held_out: int) -> Teacher | None:
    """The teacher that `config` names, if it does. Raises what `Teacher.open` raises."""
    distil = config.retrieve.distil
    return None if distil is None else Teacher.open(distil, dataset, held_out=held_out)
