"""Two releases on the same questions, so that they can be compared user by user.

A question is a test user with what happened before the target. Answers can only be paired where they are
answers to the same question; a position in a list of users means nothing once the data have changed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonrec_client.contract import PADDING_ID

from tools.data.interactions import Interactions
from tools.evaluation.metrics import ABSENT, Ints

METRICS, RANKS, COMPARED = "metrics.json", "ranks.npz", "compared.npz"
"""Files of a report; whoever compares reports needs nothing of what draws them."""
QUESTION = "question"
"""The name under which ranks.npz holds the questions, beside the ranks of each method."""


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """What another release would have shown to the same test users, from the same histories.

    Attributes:
        release: its name, 12 hexadecimal digits.
        ranks: int64 ``[number of test users]``, where its page at diversity 0 has each user's target
            (`page_ranks`), in the order of the users that have one.
    """

    release: str
    ranks: Ints


def question_hashes(history: Interactions, targets: npt.NDArray[Any]) -> Ints:
    """What each user is asked, as one number of 63 bits, int64 ``[U]``; -1 for a user without a target.

    It is the BLAKE2b of the user's wire id, the target's, the number of earlier events and their items' wire
    ids, oldest first. `targets` are item indices ``[U]``, 0 where there is none.
    """
    if targets.shape != (history.n_users,):
        raise ValueError(f"targets is {list(targets.shape)}; it must be [{history.n_users}], one per user")
    earlier = history.item_ids[history.items].astype("<i8")
    wire_targets = history.item_ids[targets]
    hashes = np.full(history.n_users, -1, dtype=np.int64)
    for row in np.flatnonzero(targets > 0).tolist():
        items = earlier[history.offsets[row] : history.offsets[row + 1]]
        head = np.array([history.user_ids[row], wire_targets[row], len(items)], dtype="<i8")
        digest = hashlib.blake2b(head.tobytes() + items.tobytes(), digest_size=8).digest()
        hashes[row] = int.from_bytes(digest, "little") & (2**63 - 1)
    return hashes


def page_ranks(pages: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]) -> Ints:
    """Where each page ``[U, N]`` of wire ids has its user's target ``[U]``, int64 ``[U]``.

    0 is the first place; `metrics.ABSENT` where the page lacks the target. Unlike item indices, wire ids mean
    the same in two releases. Raises ValueError where shapes do not fit or a target is no item.
    """
    if pages.ndim != 2 or targets.shape != pages.shape[:1]:
        raise ValueError(f"pages is {pages.shape} and targets {targets.shape}; they must be [U, N] and [U]")
    if (targets <= PADDING_ID).any():
        raise ValueError("a target is below 0; leave users without a target out")
    found = pages == targets[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), ABSENT).astype(np.int64)


def write_comparison(folder: Path, release_name: str, ranks: Ints) -> None:
    """Keep the `ranks` of the release `release_name` in ``compared.npz`` of the report in `folder`.

    They belong to the questions of the report's ``ranks.npz``, in their order.
    """
    np.savez_compressed(folder / COMPARED, release=np.array(release_name), ranks=ranks)
