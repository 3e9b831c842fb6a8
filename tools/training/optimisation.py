"""What every training loop shares: the optimiser, its schedule and one careful step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

WARM_UP_STEPS = 100


class Optimisation:
    """AdamW with a linear warm-up, a cosine decay to 5 % and clipped gradients."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float, steps: int
    ) -> None:
        self.parameters = list(parameters)
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98)
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: _factor(step, steps))

    def step(self, loss: Tensor) -> float:
        """Descend along `loss` and return its value. Raises FloatingPointError where it is not finite."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the training loss became {value}; lower the learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.schedule.step()
        return value


def _factor(step: int, steps: int) -> float:
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm_up * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(steps, 1)))))
