"""Vectors for items that nobody has met yet, from what describes them.

An item's vector is an embedding of its id plus what its features and the vectors that the data bring say
(`ItemEncoder`); both are called features here. Training never shows an item without events as an answer, only
as a wrong one, so its id embedding holds nothing but the wish not to be found. Here it gets the id embedding
that items with such features have: a ridge regression from feature vectors to id embeddings (mapping content
to collaborative factors: van den Oord et al. 2013, https://papers.nips.cc/paper/5004; Gantner et al. 2010,
https://ieeexplore.ieee.org/document/5693971). It is learned from the items with events, each as often as it
was met: a new item is taken for the item of an average event, not for one of the many that hardly anybody
meets.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.training.item_encoder import ItemEncoder
from tools.training.retriever import Retriever

RIDGE = 10.0
"""In events: an item's weight in the regression is how often it was met; this much pulls to the mean."""


class HasItems(Protocol):
    """A model with vectors of items."""

    @property
    def items(self) -> ItemEncoder: ...


def warm_up_items(model: HasItems, cold: NDArray[np.bool_], popularity: NDArray[np.int64]) -> None:
    """Give the items in `cold`, bool ``[I + 1]``, the id embedding and bias that their features suggest.

    `popularity` int64 ``[I + 1]`` are the items' events; those that have some and are not cold are learned
    from. Without any, or where nothing is cold, nothing changes.
    """
    warm_up(model.items, model.bias if isinstance(model, Retriever) else None, cold, popularity)


@torch.no_grad()
def warm_up(
    items: ItemEncoder, bias: Tensor | None, cold: NDArray[np.bool_], popularity: NDArray[np.int64]
) -> None:
    """`warm_up_items` for an encoder of items and, where they have one each, their `bias` ``[I + 1]``."""
    cold = cold.copy()
    cold[0] = False
    known = np.flatnonzero(~cold & (popularity > 0))
    if not cold.any() or not len(known):
        return
    items.eval()  # nothing is hidden from what is only being asked
    features = items.described(torch.arange(len(items.codes))).double().numpy()
    wanted = [items.identity.weight.double().numpy()]
    if bias is not None:
        wanted.append(bias.double().numpy()[:, None])
    predicted = _predict(
        features, np.hstack(wanted), known, popularity[known].astype(np.float64), np.flatnonzero(cold)
    )
    rows = torch.from_numpy(np.flatnonzero(cold))
    width = items.identity.weight.shape[1]
    items.identity.weight[rows] = torch.from_numpy(predicted[:, :width]).float()
    if bias is not None:
        bias[rows] = torch.from_numpy(predicted[:, width]).float()


def _predict(
    features: NDArray[np.float64],
    wanted: NDArray[np.float64],
    known: NDArray[np.int64],
    weight: NDArray[np.float64],
    asked: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Weighted ridge regression from `features` ``[n, d]`` to `wanted` ``[n, m]``, for the rows `asked`."""
    total = weight.sum()
    feature_mean = weight @ features[known] / total
    wanted_mean = weight @ wanted[known] / total
    x, y = features[known] - feature_mean, wanted[known] - wanted_mean
    gram = (x * weight[:, None]).T @ x
    # Relative to the features' own spread, so that it means the same for every width and scale.
    gram += RIDGE * np.trace(gram) / total / len(gram) * np.eye(len(gram))
    # Least squares: without any features there is nothing to solve, and the answer is the mean.
    coefficients = np.linalg.lstsq(gram, (x * weight[:, None]).T @ y, rcond=None)[0]
    answer: NDArray[np.float64] = (features[asked] - feature_mean) @ coefficients + wanted_mean
    return answer
