"""Programs of `torch.export`: a model's operators and weights in one file, without the code that made it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.export.passes import move_to_device_pass

FOLDER = "gpu_torch"
"""The folder among a release's artifacts that programs are in."""

QUERY, RANK = "query.pt2", "rank.pt2"
INDEX = "index"
"""The folder beside the programs that the index of a catalogue is in which the local profile has none of."""


def load_program(path: Path, device: torch.device) -> Callable[..., Any]:
    """The program in `path` as a function on `device`, by its arguments' names.

    Raises FileNotFoundError where there is none, with the option of the build that writes it.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: this release was built without the profile gpu_torch; build with --profile gpu_torch"
        )
    module: Callable[..., Any] = move_to_device_pass(torch.export.load(path), device).module()
    return module
