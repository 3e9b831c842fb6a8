"""What a retrieval channel is, before a release: something that was fitted and can be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import Sizes

from tools.data.interactions import Interactions
from tools.data.table import RawFeatures
from tools.training.features import Features
from tools.training.retriever import Progress


@dataclass(frozen=True)
class Material:
    """What channels learn from.

    Attributes:
        interactions: all that they may know of what users did.
        features: codes of users and items.
        titles: what people call each item, by item index - 1; the id where there is no title.
        history: L, how many of a user's last items a model sees.
        seed: where random choices start.
        item_vectors: vectors that the data brings, float32 ``[I + 1, width]`` by name; a row of zeros is
            an item without one.
        item_features: what else is known of each item, by item index - 1, as the data has it; empty where
            nothing is known of any.
    """

    interactions: Interactions
    features: Features
    titles: list[str]
    history: int
    seed: int
    item_vectors: Mapping[str, NDArray[np.float32]]
    item_features: list[RawFeatures] = field(default_factory=list)


class Channel(Protocol):
    """A fitted channel."""

    def write(self, folder: Path, sizes: Sizes) -> None:
        """Write into the existing, empty `folder` what the stage `retrieve` serves the channel from.

        ``sizes.candidates`` is the channel's quota: how many items it gives. Raises GraphMismatch where what
        was written does not answer like the model that it came from.
        """
        ...


class Fit(Protocol):
    """Fits a channel; the module of each kind of channel has one for its section of the configuration."""

    def __call__(
        self, config: object, material: Material, progress: Progress = lambda done, total, text: None
    ) -> Channel: ...
