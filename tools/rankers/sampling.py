"""Which of an example's candidates a step of training looks at, and what that does to the odds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Places:
    """Some places of each example's candidates.

    Attributes:
        places: int64 ``[n, m]``.
        clicked: bool ``[n, m]``, where the next item stands.
        counts: bool ``[n, m]``, which places count: not padding, and no place twice.
        offset: float32 ``[n, m]``, what the draw adds to the log odds of a click at each place.
    """

    places: NDArray[np.int64]
    clicked: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    offset: NDArray[np.float32]


def draw_places(
    candidates: NDArray[np.int32], targets: NDArray[np.int64], negatives: int, random: np.random.Generator
) -> Places:
    """Draw `negatives` of each example's `candidates` ``[n, K]``, and add its target ``[n]``, -1 for none.

    The best third is always there; the rest is drawn evenly from the others, each with the same probability
    r. Since targets are always there, the odds of a click among what is drawn are 1/r times the true ones.
    Adding the log of that to the model's logits in training, and nothing afterwards, makes the model learn
    the true odds over all candidates (case-control sampling: King & Zeng 2001,
    https://doi.org/10.1093/oxfordjournals.pan.a004868).
    """
    total = candidates.shape[1]
    count = min(negatives, total)
    # All of the candidates, or a head that is always there and a draw.
    head = total if count == total else count // 3
    keys = random.random(candidates.shape, dtype=np.float32)
    keys[:, :head] -= 1
    drawn = np.argpartition(keys, count - 1, axis=1)[:, :count]
    rate = (count - head) / (total - head) if head < total else 1.0
    here = drawn == targets[:, None]
    places = np.concatenate([drawn, np.maximum(targets, 0)[:, None]], axis=1)
    missing = (targets >= 0) & ~here.any(axis=1)
    clicked = np.concatenate([here, missing[:, None]], axis=1)
    counts = np.take_along_axis(candidates, places, axis=1) != 0
    counts[:, -1] &= missing
    offset = np.where(places < head, 0.0, -np.log(rate)).astype(np.float32)
    return Places(places, clicked, counts, offset)
