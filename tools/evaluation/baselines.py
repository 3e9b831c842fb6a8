"""What a release has to beat: three methods that need no training to speak of, on the same split.

Each is fitted on histories, and recommends to the users of those histories what they have not met yet.
Equal scores are ordered by a random key that is drawn once per item from the seed: ordering them by item
index would favour whatever the catalogue lists first.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix, vstack

from tools.data.interactions import Interactions
from tools.evaluation.metrics import Items

Scores = npt.NDArray[np.float32]

_CELLS_AT_ONCE = 8_000_000


class CatalogueTooLargeError(ValueError):
    """A baseline would need more memory than is sensible for this many items."""


class Baseline(abc.ABC):
    """A method that scores every item for every user from the users' histories."""

    name: ClassVar[str]

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def fit(self, history: Interactions) -> Self:
        """Learn from `history`, and return self."""
        self._n_columns = history.n_items + 1
        self._tie_key = self._random.permutation(self._n_columns).astype(np.int64)
        self._fit(history.to_csr())
        return self

    def recommend(self, history: Interactions, k: int) -> Items:
        """The best `k` unseen items of each user in `history`, int32 [U, k]; 0 where none is left.

        Users are taken in batches, so that memory is bounded however many there are.
        """
        seen = history.to_csr()
        lists = np.zeros((history.n_users, k), dtype=np.int32)
        for rows in row_batches(history.n_users, self._n_columns):
            scores = self._score(seen[rows])
            scores[:, 0] = -np.inf
            scores[seen[rows].nonzero()] = -np.inf
            best = top_k(scores, k, self._tie_key)
            items = np.where(np.take_along_axis(scores, best, axis=1) > -np.inf, best, 0)
            lists[rows, : items.shape[1]] = items
        return lists

    @abc.abstractmethod
    def _fit(self, seen: csr_matrix) -> None:
        """Learn from the binary matrix users × items [U, I+1]."""

    @abc.abstractmethod
    def _score(self, seen: csr_matrix) -> Scores:
        """A new array of scores [B, I+1] for users with these histories."""


class Popularity(Baseline):
    """The same for everyone: items by how many users have met them."""

    name = "popularity"

    def _fit(self, seen: csr_matrix) -> None:
        self._users = np.asarray(seen.sum(axis=0), dtype=np.float32).ravel()

    def _score(self, seen: csr_matrix) -> Scores:
        return np.tile(self._users, (seen.shape[0], 1))


class ItemKNN(Baseline):
    """Items that are met by the same users as those of the history (Deshpande & Karypis 2004).

    Similarity is the cosine of two items' binary user vectors, without shrinkage. Each candidate keeps its
    `neighbours` most similar items, and its score is the sum over those of them that the history holds.
    """

    name = "ItemKNN"

    def __init__(self, neighbours: int = 200, seed: int = 0) -> None:
        super().__init__(seed)
        self._neighbours = neighbours

    def _fit(self, seen: csr_matrix) -> None:
        self._candidates = nearest_items(seen, self._neighbours, self._tie_key).T.tocsr()

    def _score(self, seen: csr_matrix) -> Scores:
        return np.asarray((seen @ self._candidates).toarray(), dtype=np.float32)


def nearest_items(
    seen: csr_matrix,
    count: int,
    tie_key: npt.NDArray[np.int64],
    *,
    shrinkage: float = 0.0,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> csr_matrix:
    """Each item's `count` nearest others and their cosines, float32 ``[I + 1, I + 1]``: a row per item.

    `seen` is the binary matrix users × items ``[U, I + 1]``; of equal cosines those with smaller `tie_key`
    ``[I + 1]`` are kept. `shrinkage` is added to the product of lengths below the fraction, so that few users
    in common say little. `progress` is told how many items are done.
    """
    n_columns = seen.shape[1]
    users = np.asarray(seen.sum(axis=0), dtype=np.float64).ravel()
    items = seen.T.tocsr()
    blocks = []
    for rows in row_batches(n_columns, n_columns):
        common = items[rows] @ seen
        item = np.repeat(np.arange(rows.start, rows.stop), np.diff(common.indptr))
        # One root of the product, and not a product of roots, so that cosines which are equal stay so.
        cosine = common.data / (np.sqrt(users[item] * users[common.indices]) + shrinkage)
        cosine[item == common.indices] = 0.0
        keys = _descending_keys(cosine, tie_key[common.indices])
        for begin, end in pairwise(common.indptr.tolist()):
            if end - begin > count:
                cosine[begin + np.argpartition(keys[begin:end], count)[count:]] = 0.0
        block = csr_matrix((cosine.astype(np.float32), common.indices, common.indptr), shape=common.shape)
        block.eliminate_zeros()
        blocks.append(block)
        progress(rows.stop, n_columns, "items")
    neighbours = vstack(blocks, format="csr")
    neighbours.sort_indices()
    return neighbours


class EASE(Baseline):
    """A linear model from items to items with a zero diagonal, in closed form (Steck 2019).

    `fit` holds two dense matrices of items × items, and raises CatalogueTooLargeError above `max_items`.
    """

    name = "EASE"

    def __init__(self, regularisation: float = 500.0, max_items: int = 20_000, seed: int = 0) -> None:
        super().__init__(seed)
        self._regularisation = regularisation
        self._max_items = max_items

    def fit(self, history: Interactions) -> Self:
        if history.n_items > self._max_items:
            raise CatalogueTooLargeError(
                f"{self.name} inverts a matrix of items × items; "
                f"{history.n_items:,} items are more than the {self._max_items:,} it is computed for"
            )
        return super().fit(history)

    def _fit(self, seen: csr_matrix) -> None:
        gram = (seen.T @ seen).toarray()
        gram[np.diag_indices_from(gram)] += self._regularisation
        factor = cho_factor(gram, overwrite_a=True, check_finite=False)
        weights = cho_solve(factor, np.eye(len(gram), dtype=gram.dtype), overwrite_b=True, check_finite=False)
        weights /= -np.diag(weights)
        weights[np.diag_indices_from(weights)] = 0.0
        self.weights = weights
        """float32 ``[I + 1, I + 1]``: row j holds what item j of a history speaks for."""

    def _score(self, seen: csr_matrix) -> Scores:
        return np.asarray(seen @ self.weights, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class BaselineLists:
    """The baselines' lists by name, int32 [U, k], and why a baseline is missing, by name."""

    lists: dict[str, Items]
    skipped: dict[str, str]


def baseline_lists(history: Interactions, k: int, seed: int = 0) -> BaselineLists:
    """Fit all baselines on `history` and recommend `k` items to each of its users."""
    lists: dict[str, Items] = {}
    skipped: dict[str, str] = {}
    baselines: tuple[Baseline, ...] = (Popularity(seed=seed), ItemKNN(seed=seed), EASE(seed=seed))
    for baseline in baselines:
        try:
            lists[baseline.name] = baseline.fit(history).recommend(history, k)
        except CatalogueTooLargeError as error:
            skipped[baseline.name] = str(error)
    return BaselineLists(lists, skipped)


def top_k(scores: Scores, k: int, tie_key: npt.NDArray[np.int64]) -> Items:
    """The columns of each row's `k` largest scores, best first, int32 [B, min(k, columns)].

    Equal scores are ordered by `tie_key`, a permutation of the columns [columns]. Scores must not be NaN.
    """
    k = min(k, scores.shape[1])
    keys = _descending_keys(scores, tie_key)
    if k < scores.shape[1]:
        best = np.argpartition(keys, k - 1, axis=1)[:, :k]
    else:
        best = np.broadcast_to(np.arange(k), scores.shape)
    order = np.argsort(np.take_along_axis(keys, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1).astype(np.int32)


def _descending_keys(scores: Scores, tie_key: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """One integer per score, smaller for larger scores and, where those are equal, for smaller tie keys.

    The bits of IEEE floats, read as integers, are in the order of the floats; negative ones run backwards.
    No two keys of a row are equal, which makes selecting and sorting by them exact and repeatable.
    """
    bits = (-scores.astype(np.float32) + np.float32(0.0)).view(np.int32)  # + 0 makes -0 equal to 0
    ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    return np.asarray((ordered << 32) | tie_key, dtype=np.int64)


def row_batches(rows: int, columns: int) -> Iterator[slice]:
    """Slices over `rows` such that a dense block of `columns` stays small."""
    size = max(1, _CELLS_AT_ONCE // max(columns, 1))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
