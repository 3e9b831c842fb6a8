"""Made-up item vectors that lie in clusters, as trained ones do; for tests of scale, not of quality."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLUSTERS = 256
SPREAD = 0.5
"""How far vectors lie from their cluster's centre, in parts of the centre's own length."""
CHUNK = 1 << 18


def clustered_vectors(
    n_items: int, width: int, seed: int, *, clusters: int = CLUSTERS, spread: float = SPREAD
) -> NDArray[np.float32]:
    """`n_items` vectors, float32 ``[n_items, width]``, around `clusters` centres of length near 1.

    Clusters are of unequal size (Zipf's law with exponent 0.5), dimensions are of unequal scale (the last
    varies a third as much as the first), and items of one cluster are not neighbours. The same arguments
    give the same vectors; fewer items are not the beginning of more.
    """
    random = np.random.default_rng(seed)
    scale = np.linspace(1, 1 / 3, width, dtype=np.float32)
    scale /= np.sqrt(np.sum(scale**2))
    centres = random.standard_normal((clusters, width), dtype=np.float32) * scale
    size = np.cumsum(1 / np.sqrt(np.arange(1, clusters + 1)))
    vectors = random.standard_normal((n_items, width), dtype=np.float32)
    for begin in range(0, n_items, CHUNK):
        chunk = vectors[begin : begin + CHUNK]
        cluster = np.searchsorted(size, random.random(len(chunk)) * size[-1])
        chunk *= scale * np.float32(spread)
        chunk += centres[cluster]
    return vectors
