from __future__ import annotations

import numpy as np

from tools.synthetic.vectors import clustered_vectors


def test_the_same_seed_gives_the_same_vectors_and_another_gives_others() -> None:
    vectors = clustered_vectors(500, 16, seed=1)
    assert vectors.dtype == np.float32
    assert vectors.shape == (500, 16)
    assert np.array_equal(vectors, clustered_vectors(500, 16, seed=1))
    assert not np.isclose(vectors, clustered_vectors(500, 16, seed=2)).any(axis=1).all()


def test_items_lie_nearer_to_some_others_than_vectors_without_clusters_would() -> None:
    def nearest(clusters: int) -> float:
        vectors = clustered_vectors(2000, 32, seed=3, clusters=clusters)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        closeness = vectors @ vectors.T
        np.fill_diagonal(closeness, -1)
        return float(np.median(closeness.max(axis=1)))

    assert nearest(clusters=20) > nearest(clusters=2000) + 0.05
