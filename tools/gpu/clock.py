"""How long work takes on a device: in turns with what it is compared with, from a cold cache, as medians."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.gpu.card import Card

Work = Callable[[], object]

WARM_UP = 3
"""Runs before a graph is captured: libraries choose their ways, and memory is there."""
FLUSH = 2
"""What lies in the L2 cache is pushed out by writing so many times its size."""


@dataclass
class Clock:
    """Times work on `card`.

    On a GPU the time is that between two events of its stream, so that waiting for the processor counts only
    where the GPU waits for it; each run is preceded by one that empties the L2 cache, because a server has
    other things to do between two requests. On the processor it is the wall's.

    Attributes:
        turns: how often everything is run.
        at_most: seconds after which no further turn begins; three are made in any case.
    """

    card: Card
    turns: int = 21
    at_most: float = 3.0
    _junk: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.card.is_gpu:
            size = torch.cuda.get_device_properties(self.card.device).L2_cache_size
            self._junk = torch.empty(max(FLUSH * size, 1 << 20), dtype=torch.int8, device=self.card.device)

    def in_turns(self, works: Mapping[str, Work]) -> dict[str, NDArray[np.float64]]:
        """Seconds that each of `works` took in each turn, float64 ``[turns]``; a first turn is left out."""
        seconds: dict[str, list[float]] = {name: [] for name in works}
        began = time.perf_counter()
        for turn in range(self.turns + 1):
            if turn > 3 and time.perf_counter() - began > self.at_most:
                break
            for name, work in works.items():
                took = self._on_gpu(work) if self.card.is_gpu else self._on_processor(work)
                if turn:
                    seconds[name].append(took)
        return {name: np.array(times) for name, times in seconds.items()}

    def captured(self, work: Work) -> tuple[Work, bool]:
        """`work` as a CUDA graph, and True; where it cannot be captured, itself and False.

        A graph is launched at once: otherwise small work measures how fast Python launches kernels.
        """
        if not self.card.is_gpu:
            return work, False
        stream = torch.cuda.Stream(self.card.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.card.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream(self.card.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                work()
        except RuntimeError:
            self.card.wait()
            return work, False
        return graph.replay, True

    def _on_gpu(self, work: Work) -> float:
        assert self._junk is not None
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        # Meanwhile the processor gets ahead, so that the first launch is not waited for.
        self._junk.zero_()
        begin.record()
        work()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000

    @staticmethod
    def _on_processor(work: Work) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began


def copy_bandwidth(clock: Clock, size: int) -> float:
    """Bytes read and written in a second by a copy of `size` bytes within the device's memory."""
    source = torch.ones(size // 4, device=clock.card.device)
    target = torch.empty_like(source)
    took = clock.in_turns({"copy": lambda: target.copy_(source)})["copy"]
    return 2 * source.nbytes / float(np.median(took))
