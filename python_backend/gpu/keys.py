"""Scores and items as one number to sort by: greater scores first, equal ones by item."""

from __future__ import annotations

import torch
from torch import Tensor

LAST_ITEM = 2**31 - 1


def to_keys(scores: Tensor, items: Tensor) -> Tensor:
    """int64 keys of float32 `scores` and `items` from 0 to LAST_ITEM; the better, the greater.

    A score is taken as its bits, which for numbers that are not negative are ordered like integers, and the
    other way round for the others. −0 counts as 0.
    """
    bits = (scores + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & LAST_ITEM)
    return (ordered.long() << 32) | (LAST_ITEM - items.long())


def from_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The scores, float32, and items, int32, that `to_keys` made `keys` of."""
    ordered = (keys >> 32).int()
    scores = (ordered ^ ((ordered >> 31) & LAST_ITEM)).view(torch.float32)
    return scores, (LAST_ITEM - (keys & LAST_ITEM)).int()
