"""Distillation: what a larger model says about a batch, as a part of the loss.

Hinton et al. 2015, https://arxiv.org/abs/1503.02531: besides the item that came next, the small model learns
how likely the large one holds each of the others to be.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as functional
from torch import Tensor

HIDDEN = -1e9
"""The logit of what both models pass over: a probability of 0, without the NaN that −∞ would bring."""


@dataclass(frozen=True)
class Lesson:
    """A teacher's query vectors for the positions of a batch, and the items that they are compared with.

    Attributes:
        queries: float ``[B, L, e]``.
        vectors: float ``[I + 1, e]``, by the item indices of the model that learns.
        bias: float ``[I + 1]``.
        unknown: bool ``[I + 1]``, items that the teacher has never met and says nothing about.
        weight: the share of the teacher's word in the loss; the rest is the item that came next.
        temperature: what logits are divided by: above 1, unlikely items count for more.
    """

    queries: Tensor
    vectors: Tensor
    bias: Tensor
    unknown: Tensor
    weight: float
    temperature: float

    def mix(
        self,
        loss: Tensor,
        student: Tensor,
        teacher: Tensor,
        hidden: Tensor,
        log_expected: Tensor | float = 0.0,
    ) -> Tensor:
        """`loss` and the teacher's word by their weights.

        `student` and `teacher` are logits ``[n, k]`` of the same items, `hidden` (bool, broadcast to them)
        says which do not count. Of items that were drawn, `log_expected` is the log of how often each is
        expected in the draw: each stands for the more of the catalogue the rarer it is drawn. The
        divergence is taken times temperature², which keeps its gradients' size (Hinton et al., section 2).
        """

        def log_probability(logits: Tensor) -> Tensor:
            scaled = logits.float() / self.temperature - log_expected
            return scaled.masked_fill(hidden, HIDDEN).log_softmax(dim=-1)

        divergence = functional.kl_div(
            log_probability(student), log_probability(teacher), reduction="batchmean", log_target=True
        )
        return (1 - self.weight) * loss + self.weight * self.temperature**2 * divergence
