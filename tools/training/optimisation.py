"""What every training loop shares: the optimiser, its schedule and one careful step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

WARM_UP_STEPS = 100


class Optimisation:
    """AdamW with a linear warm-up, a cosine decay to 5 % and gradients clipped to the norm `clip`."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        learning_rate: float,
        weight_decay: float,
        steps: int,
        clip: float = 1.0,
    ) -> None:
        self.parameters = list(parameters)
        self.clip = clip
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98)
        )
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: _factor(step, steps))

    def step(self, loss: Tensor) -> float:
        """Descend along `loss` and return its value. Raises FloatingPointError where it is not finite."""
        value = self.add(loss)
        self.descend()
        return value

    def add(self, loss: Tensor) -> float:
        """Add the gradients of `loss`, a part of the step's loss, to what `descend` will use; its value.

        Raises FloatingPointError where it is not finite.
        """
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the training loss became {value}; lower the learning rate")
        loss.backward()  # type: ignore[no-untyped-call]
        return value

    def descend(self) -> None:
        """Descend along the gradients, and forget them."""
        nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()


def _factor(step: int, steps: int) -> float:
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm_up * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(steps, 1)))))
