"""The device that a stage computes on: a CUDA card, or the processor, where the same code is tested."""

from __future__ import annotations

import torch

DEVICES = ("cuda", "cpu")


class DeviceUnavailable(RuntimeError):
    """The device that was asked for is not there; the message says what to do."""


def open_device(name: str) -> torch.device:
    """The device `name`: ``cuda``, ``cuda:1``, … or ``cpu``. Raises ValueError and DeviceUnavailable."""
    kind, _, number = name.partition(":")
    if kind not in DEVICES or (number and not number.isdecimal()) or name.endswith(":"):
        raise ValueError(f"device is {name!r}; allowed are cuda, cuda with a number such as cuda:1, and cpu")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        why = "is built without CUDA" if torch.version.cuda is None else "finds no NVIDIA GPU or driver"
        raise DeviceUnavailable(
            f"device is {name}, but PyTorch {torch.__version__} {why}: install a CUDA build of torch on a"
            " machine with an NVIDIA GPU, or set the parameter device to cpu"
        )
    if int(number or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(f"device is {name}, but this machine has {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", int(number or 0))
