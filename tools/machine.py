"""What machine this is: a figure without it says little."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> str:
    """This machine in a few words."""
    return f"{os.cpu_count()} × {processor()}, Python {platform.python_version()}"


def processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "processor")
