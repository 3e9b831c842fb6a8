"""One list of what several queries of the same user find."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from python_backend.exact_search import ExactSearch
from python_backend.item_index import PADDING_SCORE


def search_each(
    search: ExactSearch, queries: NDArray[np.float32], seen: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The best items for each user's `queries` float32 ``[B, queries, d]``, without `seen` int32 ``[B, E]``.

    Returns items int32 ``[B, K]``, best first, and float32 ``[B, K]``, the logarithms of their softmax
    probabilities among the K items that the same query finds; of several queries the best. Places for which
    no item is left hold item 0 and PADDING_SCORE.

    The list is exact: an item that is not among the best K of the query which likes it most has K items
    before it there, which are before it in the whole list, too.
    """
    rows, each = queries.shape[:2]
    items, scores = search(queries.reshape(rows * each, -1), np.repeat(seen, each, axis=0))
    places = items.shape[1]
    # A search knows the sum over all items only nearly, which would favour one query over another.
    scores = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    items, scores = items.reshape(rows, -1), scores.reshape(rows, -1)
    # Each item's best score comes first among its own …
    order = np.lexsort((-scores, items))
    items, scores = np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)
    # … and what comes again, or is no item, goes to the end.
    again = np.diff(items, axis=1, prepend=-1) == 0
    none = again | (items == 0)
    items, scores = np.where(none, 0, items), np.where(none, np.float32(PADDING_SCORE), scores)
    order = np.lexsort((items, -scores))[:, :places]
    return np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)
