"""How much arithmetic a module does: the multiplications and additions of its matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(work: Callable[[], Any]) -> int:
    """Floating point operations of the matrix products in `work`, two for each multiply and add.

    Attention counts as the two products that it consists of. Sums, gathers, norms and activations count
    nothing: they cost a card time but are no use of its arithmetic.
    """
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
