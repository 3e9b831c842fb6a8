"""Batches of a few fixed sizes: memory that stays where it is, and on a card one CUDA graph for each.

A captured graph starts hundreds of small kernels at once, where starting them one by one takes longer than
they do. It reads and writes the memory that it was captured with, so a batch is copied into it and padded.
Everything that comes in is one array, and everything that goes out: one copy each way, from and to memory
that the card reaches by itself (pinned).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Rows of the batches there are; a smaller one is padded, a larger one is cut."""

WARM_UPS = 3
"""Runs before capturing, in which libraries choose their kernels and allocate what they need."""

Compute = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class FixedBatch:
    """Runs `compute` for `rows` rows on `device`.

    `compute` takes int32 tensors ``[rows, width]``, whose names and widths are `widths`, and gives tensors
    ``[rows, …]`` of 4 bytes an element. `pool` is the memory that graphs share which never run at once.
    """

    def __init__(
        self,
        compute: Compute,
        widths: Mapping[str, int],
        rows: int,
        device: torch.device,
        pool: Any = None,
    ) -> None:
        self.rows = rows
        self._compute, self._device = compute, device
        columns = sum(widths.values())
        pinned = device.type == "cuda"
        self._host_in = torch.zeros((rows, columns), dtype=torch.int32, pin_memory=pinned)
        self._in = torch.zeros((rows, columns), dtype=torch.int32, device=device)
        self._inputs = _columns(self._in, widths)
        self._host_inputs = _columns(self._host_in, widths)
        self._graph: torch.cuda.CUDAGraph | None = None
        if pinned:
            self._capture(pool)
            self._host_out = torch.empty(self._out.shape, dtype=torch.int32, pin_memory=True)

    def __call__(self, inputs: Mapping[str, Tensor], rows: int, *, to_host: bool) -> dict[str, Tensor]:
        """The outputs of the first `rows` rows, on the device or in the processor's memory: copies of them.

        `inputs` ``[rows, width]`` may lie in either.
        """
        if all(tensor.device.type == "cpu" for tensor in inputs.values()):
            for name, tensor in inputs.items():
                self._host_inputs[name][:rows] = tensor
            self._in[:rows].copy_(self._host_in[:rows], non_blocking=True)
        else:
            for name, tensor in inputs.items():
                self._inputs[name][:rows].copy_(tensor, non_blocking=True)
        if self._graph is not None:
            self._graph.replay()
        else:
            self._out, self._outputs = self._packed()
        out = self._out[:rows]
        if to_host and self._device.type == "cuda":
            self._host_out[:rows].copy_(out, non_blocking=True)
            torch.cuda.current_stream(self._device).synchronize()
            out = self._host_out[:rows]
        return self._unpacked(out.clone())

    def _packed(self) -> tuple[Tensor, dict[str, tuple[int, torch.dtype]]]:
        """What `compute` gives as one array of 32-bit words, and each output's width and dtype."""
        outputs = self._compute({name: tensor.contiguous() for name, tensor in self._inputs.items()})
        flat = {name: tensor.reshape(self.rows, -1) for name, tensor in outputs.items()}
        layout = {name: (tensor.shape[1], tensor.dtype) for name, tensor in flat.items()}
        return torch.cat([tensor.view(torch.int32) for tensor in flat.values()], dim=1), layout

    def _unpacked(self, words: Tensor) -> dict[str, Tensor]:
        parts = _columns(words, {name: width for name, (width, _) in self._outputs.items()})
        return {name: part.contiguous().view(self._outputs[name][1]) for name, part in parts.items()}

    def _capture(self, pool: Any) -> None:
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._packed()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._out, self._outputs = self._packed()


class FixedBatches:
    """A `FixedBatch` of each of `sizes`; any number of rows is answered."""

    def __init__(
        self,
        compute: Compute,
        widths: Mapping[str, int],
        device: torch.device,
        sizes: tuple[int, ...] = SIZES,
    ) -> None:
        # One after the other, never at once, so that they share their memory; the largest first.
        pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        batches = [FixedBatch(compute, widths, rows, device, pool) for rows in sorted(sizes, reverse=True)]
        self._batches = batches[::-1]

    def __call__(self, inputs: Mapping[str, Tensor], *, to_host: bool) -> dict[str, Tensor]:
        """The outputs for `inputs` ``[B, width]``, for any B from 1 on."""
        rows = len(next(iter(inputs.values())))
        most = self._batches[-1].rows
        parts = []
        for begin in range(0, rows, most):
            part = {name: tensor[begin : begin + most] for name, tensor in inputs.items()}
            count = min(rows - begin, most)
            batch = next(batch for batch in self._batches if batch.rows >= count)
            parts.append(batch(part, count, to_host=to_host))
        if len(parts) == 1:
            return parts[0]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _columns(array: Tensor, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Parts of `array` ``[rows, columns]``, side by side, by their names and `widths`."""
    parts: tuple[Tensor, ...] = torch.split(array, list(widths.values()), dim=1)
    return dict(zip(widths, parts, strict=True))
