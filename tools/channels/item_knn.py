"""ItemKNN: items by the cosine of who met them (Sarwar et al. 2001; Deshpande & Karypis 2004)."""

from __future__ import annotations

import numpy as np

from tools.channels.channel import Material
from tools.channels.item_rows import ItemRows
from tools.config.memory_channels import ItemKnnChannel
from tools.evaluation.baselines import nearest_items
from tools.training.retriever import Progress


def fit(
    config: ItemKnnChannel, material: Material, progress: Progress = lambda done, total, text: None
) -> ItemRows:
    """The cosines of ``config.neighbours`` neighbours of each item; of equal ones the lower items' are kept.

    An item is not its own neighbour (in `implicit`, which counts it, the same K is one more).
    """
    interactions = material.interactions
    in_order = np.arange(interactions.n_items + 1, dtype=np.int64)
    neighbours = nearest_items(
        interactions.to_csr(), config.neighbours, in_order, shrinkage=config.shrinkage, progress=progress
    )
    # A row of it is an item with its neighbours; what is served is a row per item of the user.
    rows = neighbours.T.tocsr() if config.neighbours_of == "candidate" else neighbours
    rows.sort_indices()
    return ItemRows(rows)
