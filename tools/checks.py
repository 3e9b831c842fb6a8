"""The checks that a release passes before it gets a name: what is served is what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-5
"""How far two scores of the same item may be apart, absolute and relative to their size."""


class CheckFailed(RuntimeError):
    """A release that must not be used; the message says which check it failed, and how."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two sets of pages agree.

    Attributes:
        users: how many pages were compared.
        different_lists: how many of them do not hold the same items in the same order.
        score_difference: the greatest difference of two scores at the same place, relative to ``1 + score``.
    """

    users: int
    different_lists: int
    score_difference: float

    @property
    def holds(self) -> bool:
        """Whether the lists are the same and the scores within the tolerance."""
        return self.different_lists == 0 and self.score_difference <= TOLERANCE


def compare_pages(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> Agreement:
    """Compare `item_id` int64 ``[U, N]`` and `score` float32 ``[U, N]`` of two ways to the same answer."""
    different = (first["item_id"] != second["item_id"]).any(axis=1)
    scores = np.abs(first["score"] - second["score"]) / (1 + np.abs(second["score"]))
    return Agreement(len(different), int(different.sum()), float(scores.max(initial=0)))


def without_drawn(answer: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """`answer` without the places of pages that were drawn at random, which are as empty as padding then.

    Of every tensor as wide as `propensity` ``[U, N]``; an answer without that one stays as it is.
    """
    if "propensity" not in answer:
        return dict(answer)
    drawn = answer["propensity"] < 1
    empty = {"item_id": -1, "because": -1, "propensity": 1}
    return {
        name: np.where(drawn, np.array(empty.get(name, 0), array.dtype), array)
        if array.shape == drawn.shape
        else array
        for name, array in answer.items()
    }


def require_agreement(what: str, agreement: Agreement) -> None:
    """Raise CheckFailed, which says `what` was compared, unless `agreement` holds."""
    if not agreement.holds:
        raise CheckFailed(
            f"{what}: {agreement.different_lists} of {agreement.users} lists differ, scores by up to"
            f" {agreement.score_difference:.2g}; allowed is no list and {TOLERANCE:g}"
        )


def require_same_inputs(served: Mapping[str, NDArray[Any]], trained_on: Mapping[str, NDArray[Any]]) -> None:
    """Raise CheckFailed unless the stages were served just what their models were trained on.

    Of each tensor in `trained_on`, ``[U, width]``, every user's row must be equal in `served`.
    """
    for name, expected in trained_on.items():
        different = int((served[name] != expected).any(axis=1).sum())
        if different:
            raise CheckFailed(
                f"{name}: {different} of {len(expected)} users are served something else than was trained on"
            )
