"""EASE: a linear model from items to items in closed form (Steck 2019, https://arxiv.org/abs/1905.03375)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tools.channels.channel import Material
from tools.channels.item_rows import ItemRows
from tools.config.build import ConfigError
from tools.config.memory_channels import EaseChannel
from tools.evaluation.baselines import EASE, CatalogueTooLargeError, row_batches, top_k
from tools.training.retriever import Progress


def fit(
    config: EaseChannel, material: Material, progress: Progress = lambda done, total, text: None
) -> ItemRows:
    """All weights of a small catalogue, else the greatest of each item, by size.

    Raises ConfigError where the catalogue is too large for the closed form.
    """
    try:
        weights = EASE(regularisation=config.regularisation).fit(material.interactions).weights
    except CatalogueTooLargeError as error:
        raise ConfigError(
            [f'channels: {error}; leave the channel with model = "ease" out, or take "item_knn"']
        ) from error
    weights[0] = weights[:, 0] = 0
    if material.interactions.n_items <= config.whole_items:
        return ItemRows(weights.astype(np.float32, copy=False))
    return ItemRows(_greatest(weights, config.neighbours))


def _greatest(weights: NDArray[np.float32], count: int) -> csr_matrix:
    """The `count` numbers of each row that are greatest by size; of equal ones those of the lower columns."""
    columns = np.arange(len(weights), dtype=np.int64)
    kept = [top_k(np.abs(weights[rows]), count, columns) for rows in row_batches(*weights.shape)]
    places = np.sort(np.concatenate(kept), axis=1)
    values = np.take_along_axis(weights, places.astype(np.int64), axis=1)
    offsets = np.arange(len(weights) + 1) * places.shape[1]
    rows = csr_matrix((values.ravel(), places.ravel(), offsets), shape=weights.shape)
    rows.eliminate_zeros()
    return rows
