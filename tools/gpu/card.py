"""What is measured on: a GPU, or the processor, which tries the same code."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass

import torch

from tools.machine import processor

CUDA, CPU = "cuda", "cpu"


class NoGpuError(RuntimeError):
    """There is no GPU that PyTorch can use; the message says what it found."""


@dataclass(frozen=True, slots=True)
class Card:
    """A device of PyTorch."""

    device: torch.device

    @classmethod
    def find(cls, name: str) -> Card:
        """The device called `name`, ``cuda`` or ``cpu``. Raises NoGpuError."""
        if name == CPU:
            return cls(torch.device(CPU))
        if not torch.cuda.is_available():
            raise NoGpuError(
                f"needs an NVIDIA GPU: torch.cuda.is_available() is False (torch {torch.__version__},"
                f" CUDA {torch.version.cuda or 'none'}); --device cpu tries the command without one"
            )
        return cls(torch.device(CUDA, torch.cuda.current_device()))

    @property
    def is_gpu(self) -> bool:
        return self.device.type == CUDA

    def wait(self) -> None:
        """Return when everything that was asked of the device is done."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def release_memory(self) -> None:
        """Give back what PyTorch keeps for later."""
        if self.is_gpu:
            torch.cuda.empty_cache()

    def facts(self) -> dict[str, str]:
        """Hardware, driver and libraries, in words."""
        facts = {"processor": f"{os.cpu_count()} × {processor()}", "python": platform.python_version()}
        facts["torch"] = f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}"
        if not self.is_gpu:
            return {"card": "none: the processor, which tries the code and measures nothing", **facts}
        about = torch.cuda.get_device_properties(self.device)
        card = (
            f"{about.name}, compute capability {about.major}.{about.minor},"
            f" {about.multi_processor_count} multiprocessors, {about.total_memory / 2**30:.0f} GiB,"
            f" L2 {about.L2_cache_size / 2**20:.0f} MiB"
        )
        return {"card": card, **_driver(self.device.index), **facts}


def _driver(number: int) -> dict[str, str]:
    """What nvidia-smi says of the driver and the clocks; nothing where it is not there."""
    asked = {"driver": "driver_version", "clocks": "clocks.max.sm,clocks.max.memory", "power": "power.limit"}
    facts = {}
    for name, query in asked.items():
        command = ["nvidia-smi", f"--id={number}", f"--query-gpu={query}", "--format=csv,noheader"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        facts[name] = answer.stdout.strip()
    return facts
