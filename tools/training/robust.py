"""What makes the retriever robust: worst steps of its item vectors, softer answers, gaps in histories.

Adversarial personalised ranking (He et al. 2018, https://arxiv.org/abs/1808.03908) adds the loss that the
model would have if every item vector were moved a little in the direction that hurts most. Label smoothing
(Szegedy et al. 2016, https://arxiv.org/abs/1512.00567) spreads a share of each answer over the catalogue.
Dropout of history hides items from the model that it is asked to go on from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.config.training import RobustConfig


class Robust:
    """What `config` adds to a step of training; with zeros, nothing is drawn and nothing is computed.

    Attributes:
        epoch: the running one, from 1; the adversary comes in with the epoch that `config` names, or with
            `from_epoch` instead.
    """

    def __init__(self, config: RobustConfig, *, from_epoch: int | None = None) -> None:
        self.config = config
        self.from_epoch = config.adversarial_from_epoch if from_epoch is None else from_epoch
        self.epoch = 1

    def hide(self, histories: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
        """`histories` ``[B, L]`` with items hidden: their places stay, as places that hold no item."""
        if not self.config.history_dropout:
            return histories
        hidden = random.random(histories.shape) < self.config.history_dropout
        return np.where(hidden, np.int32(0), histories)

    def smooth(
        self,
        loss: Tensor,
        logits: Tensor,
        hidden: Tensor | None = None,
        log_expected: Tensor | None = None,
    ) -> Tensor:
        """The cross-entropy `loss` with a share of each answer spread evenly over the catalogue.

        `logits` ``[n, k]`` are of the whole catalogue, or of items drawn from it: `log_expected` ``[k]`` is
        the log of how often each is expected in the draw, so that each stands for as many items as it should,
        and those that are `hidden`, bool ``[n, k]``, do not count.
        """
        share = self.config.label_smoothing
        if not share:
            return loss
        log_weight = torch.zeros_like(logits)
        if log_expected is not None:
            log_weight = log_weight - log_expected
        if hidden is not None:
            log_weight = log_weight.masked_fill(hidden, -torch.inf)
        total = (logits + log_weight).logsumexp(dim=-1)
        mean = (log_weight.softmax(dim=-1) * logits).sum(dim=-1)
        return (1 - share) * loss + share * (total - mean).mean()

    def harden(self, loss: Callable[[Tensor], Tensor], vectors: Tensor) -> Tensor:
        """The `loss` of the item `vectors` ``[n, d]``, row 0 padding, and the weighted one of worse vectors.

        Each vector is moved by ``adversarial_epsilon`` along its own gradient, which counts as a constant;
        padding stays where it is. Both losses see the same dropout, so that the second is the worse one.
        """
        config = self.config
        if not config.adversarial_weight or self.epoch < self.from_epoch:
            return loss(vectors)
        devices = [vectors.device] if vectors.is_cuda else []
        with torch.random.fork_rng(devices):
            plain = loss(vectors)
        (gradient,) = torch.autograd.grad(plain, vectors, retain_graph=True)
        step = torch.nn.functional.normalize(gradient.detach(), dim=-1)
        step[0] = 0
        return plain + config.adversarial_weight * loss(vectors + config.adversarial_epsilon * step)


AS_USUAL = Robust(RobustConfig.model_validate({}))
"""Training without any of it."""
