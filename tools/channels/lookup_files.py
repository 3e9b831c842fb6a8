"""What channels that look things up have in common when they are written: their kind, and the proof."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import Sizes

from python_backend.channels.rows import own_items
from python_backend.exact_search import MissingLibrary
from python_backend.item_index import PADDING_SCORE
from python_backend.stages.retrieve import CHANNEL, Retrieve
from tools.checks import CheckFailed
from tools.training.export import GraphMismatch

Floats = NDArray[np.float32]
Items = NDArray[np.int32]
Score = Callable[[Items, Items], Floats]
"""Every item's score, float ``[I + 1]``, for one user's history ``[L]`` and different seen items ``[n]``; NaN
for what is no candidate. Seen items need no NaN."""

ROUNDING = 1e-4
"""How far two sums of the same numbers may be apart, absolute and relative to their size."""


def write_kind(folder: Path, kind: str) -> None:
    """Say in `folder` of which kind a channel is, one of ``CHANNEL_CLASSES``."""
    (folder / CHANNEL).write_text(json.dumps({"kind": kind}) + "\n", encoding="utf-8")


def prove(folder: Path, sizes: Sizes, n_items: int, score: Score) -> None:
    """Open what was written to `folder`, and raise GraphMismatch unless it answers as `score` says.

    It is asked for made-up users with long, short and no histories: each list must go down, hold only unseen
    items with their own scores, and lack none that is better than its last. Raises CheckFailed where a
    library is missing that serving needs.
    """
    try:
        stage = Retrieve.open(folder, candidates=sizes.candidates)
    except MissingLibrary as error:
        raise CheckFailed(str(error)) from error
    history, seen = made_up_users(sizes, n_items, rows=5)
    users = np.zeros((len(seen), sizes.user_features), np.int32)
    answer = stage({"user_features": users, "history": history, "seen": seen})
    candidate, found = answer["candidate"], answer["retrieval_score"]
    for row in range(len(seen)):
        own = own_items(seen[row], n_items)
        wanted = np.asarray(score(history[row], own), np.float32).copy()
        wanted[0] = np.nan
        wanted[own] = np.nan
        best = np.sort(wanted[~np.isnan(wanted)])[::-1][: sizes.candidates]
        items, scores = candidate[row, : len(best)], found[row, : len(best)]
        alike = np.allclose(scores, best, ROUNDING, ROUNDING)
        alike = alike and np.allclose(scores, wanted[items], ROUNDING, ROUNDING)
        rest_is_padding = (
            not candidate[row, len(best) :].any() and (found[row, len(best) :] == PADDING_SCORE).all()
        )
        if not (alike and rest_is_padding and len(np.unique(items)) == len(best)):
            raise GraphMismatch(f"{folder}: the list of a user with {len(own)} items is not the channel's")


def made_up_users(sizes: Sizes, n_items: int, rows: int) -> tuple[Items, Items]:
    """Histories int32 ``[rows, L]`` and seen items int32 ``[rows, E]``, seeded: from none to many.

    The longest see more than their histories hold, where the widths allow it.
    """
    random = np.random.default_rng(rows)
    history = np.zeros((rows, sizes.history), np.int32)
    seen = np.zeros((rows, sizes.seen), np.int32)
    most = min(2 * sizes.history, sizes.seen, n_items // 2)
    for row, length in enumerate(np.linspace(0, most, rows).astype(int).tolist()):
        items = random.choice(n_items, length, replace=False) + 1
        seen[row, :length] = items
        newest = items[length - min(length, sizes.history) :]
        history[row, sizes.history - len(newest) :] = newest
    return history, seen
