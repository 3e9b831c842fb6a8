"""A data set's features as the models see them: codes, made by the encoders that also serve, and vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from python_backend.features import FeatureEncoder
from tools.config.build import BuildConfig, ConfigError
from tools.data.dataset import Dataset


@dataclass(frozen=True)
class Features:
    """Feature codes of a data set, and the vectors that it brings.

    Attributes:
        users: int32 ``[U, F]``.
        items: int32 ``[I + 1, columns]``, row 0 is padding.
        vectors: of items, by name, each float32 ``[I + 1, n]`` with rows of length 1; a row of zeros is an
            item without one, and row 0 is padding.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    user_encoder: FeatureEncoder
    item_encoder: FeatureEncoder
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset, config: BuildConfig) -> Self:
        """Fit the encoders on `dataset` and encode it.

        Raises ConfigError where the user features need more codes than ``contract.user_features``.
        """
        user_fields = config.data.users.fields if config.data.users else ()
        item_fields = config.data.items.fields if config.data.items else ()
        try:
            users = FeatureEncoder.fit(user_fields, dataset.user_features, config.sizes.user_features)
        except ValueError as error:
            raise ConfigError([f"contract.user_features: {error}; set it to what they need"]) from error
        items = FeatureEncoder.fit(item_fields, dataset.item_features, None)
        return cls.coded(dataset, users, items)

    @classmethod
    def coded(cls, dataset: Dataset, users: FeatureEncoder, items: FeatureEncoder) -> Self:
        """`dataset` in the codes of encoders that are fitted already."""
        codes = items.encode(dataset.item_features)
        # One column at least, so that arrays and graphs have the same form without any features.
        width = max(codes.shape[1], 1)
        padded = np.zeros((len(codes) + 1, width), dtype=np.int32)
        padded[1:, : codes.shape[1]] = codes
        return cls(users.encode(dataset.user_features), padded, users, items, dataset.item_vectors)

    def with_vectors(self, widths: Mapping[str, int]) -> Self:
        """The same with these vectors alone, by name and width. Raises ValueError where they are not so."""
        found = {name: vectors.shape[1] for name, vectors in self.vectors.items()}
        for name, width in widths.items():
            if found.get(name) != width:
                has = ", ".join(f"{name} ({width} wide)" for name, width in sorted(found.items())) or "none"
                raise ValueError(f"item vectors {name}, {width} wide, are not in the data, which have {has}")
        return replace(self, vectors={name: self.vectors[name] for name in widths})
