"""What models answer in this process to the users of some histories: arrays in, lists out, no server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import Sizes

from tools.data.interactions import Interactions
from tools.training.features import Features
from tools.training.windows import histories_before

BATCH = 64

Tensors = dict[str, NDArray[Any]]
Answer = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]
"""A stage, or whatever answers like one."""


def inputs_of(histories: Interactions, features: Features, sizes: Sizes) -> Tensors:
    """What `feature_lookup` gives the models for every user of `histories`, a row each.

    user_features int32 ``[U, F]``, history int32 ``[U, L]`` (newest last, 0 is padding) and seen int32
    ``[U, E]``.
    """
    users, ends = np.arange(histories.n_users), histories.offsets[1:]
    return {
        "user_features": features.users,
        "history": histories_before(histories, users, ends, sizes.history),
        "seen": histories_before(histories, users, ends, sizes.seen),
    }


def ask(answer: Answer, inputs: Mapping[str, NDArray[Any]], batch: int = BATCH) -> Tensors:
    """What `answer` gives for all rows of `inputs`, asked `batch` rows at a time."""
    rows = len(next(iter(inputs.values())))
    parts = [
        answer({name: array[begin : begin + batch] for name, array in inputs.items()})
        for begin in range(0, rows, batch)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def reordered(candidate: NDArray[np.int32], score: NDArray[np.float32]) -> NDArray[np.int32]:
    """Each row's candidates ``[U, K]`` by `score`, best first, padding last; equals keep their order."""
    order = np.argsort(np.where(candidate > 0, -score, np.inf), axis=1, kind="stable")
    return np.take_along_axis(candidate, order, axis=1)
