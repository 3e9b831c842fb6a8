"""The processes that train one model together, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

PATIENCE = timedelta(hours=1)
"""How long processes wait for one that measures or writes."""


CPU = torch.device("cpu")


@dataclass(frozen=True)
class Workers:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
        device: where it computes.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = CPU

    @property
    def on_cuda(self) -> bool:
        """Whether this process computes on a GPU."""
        return self.device.type == "cuda"

    def share(self, module: nn.Module) -> nn.Module:
        """`module`, whose gradients become the mean over all processes; it begins as that of rank 0."""
        if self.count == 1:
            return module
        return DistributedDataParallel(
            module,
            device_ids=[self.device] if self.on_cuda else None,
            gradient_as_bucket_view=True,
            forward_sync_buffers=False,  # constants, and those of the items are large
        )

    def gathering(self, module: nn.Module, *, last: bool) -> Any:
        """A context for a part of a step: gradients travel between processes with the `last` part alone."""
        if last or not isinstance(module, DistributedDataParallel):
            return nullcontext()
        return module.no_sync()

    def mean(self, value: float) -> float:
        """The mean of every process's `value`."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return float(total) / self.count

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Every process's `tensor`, by rank."""
        if self.count == 1:
            return [tensor]
        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, tensor)
        return found

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Workers()


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[Workers]:
    """This process's place among those that torchrun started, or alone without torchrun.

    Each takes the GPU of its number on its machine (NCCL), or the CPU where there is none (gloo).
    """
    on_cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(environment.get("LOCAL_RANK", 0))) if on_cuda else CPU
    if on_cuda:
        torch.cuda.set_device(device)
    if int(environment.get("WORLD_SIZE", 1)) == 1:
        yield Workers(device=device)
        return
    store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    # After a restart torchrun's store still holds the addresses of the processes that have ended
    # (https://github.com/pytorch/pytorch/issues/167288), so every attempt gets names of its own.
    attempt = PrefixStore(environment.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    backend = "nccl" if on_cuda else "gloo"
    distributed.init_process_group(backend, store=attempt, rank=rank, world_size=count, timeout=PATIENCE)
    try:
        yield Workers(rank, count, device)
    finally:
        distributed.destroy_process_group()
