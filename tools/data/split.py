"""Holds each user's last items back, by time, to measure on what a model has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.data.interactions import Interactions

LEAST_EVENTS = 3
"""A user with fewer events is only trained on: one to train, one to validate, one to test."""


@dataclass(frozen=True)
class Split:
    """Leave one out, by time.

    Attributes:
        train: what models learn from, and the histories from which validation items are predicted.
        validation: int32 ``[U]``, each user's last item but one; 0 for users with too few events.
        train_and_validation: the histories from which test items are predicted.
        test: int32 ``[U]``, each user's last item; 0 for users with too few events.
    """

    train: Interactions
    validation: NDArray[np.int32]
    train_and_validation: Interactions
    test: NDArray[np.int32]


def leave_one_out(interactions: Interactions) -> Split:
    """The last item of every user is the test, the one before it validation; never a random split.

    A user with fewer than 3 events keeps all of them for training and has neither.
    """
    measured = interactions.lengths >= LEAST_EVENTS
    held_out = measured.astype(np.int64)
    return Split(
        train=interactions.without_last(2 * held_out),
        validation=np.where(measured, interactions.last(2), np.int32(0)),
        train_and_validation=interactions.without_last(held_out),
        test=np.where(measured, interactions.last(1), np.int32(0)),
    )
