"""The library that makes plans: TensorRT itself, or TensorRT for RTX, which has the same builder.

Only what TensorRT itself made is ever served: Triton's backend cannot load engines of the other. But that one
installs from PyPI and compiles for a named capability without any card, so that everybody can check whether
TensorRT accepts a graph.
"""

from __future__ import annotations

import ctypes
import importlib
import re
from dataclasses import dataclass
from typing import Any

from tools.plans.capability import Capability

TENSORRT, RTX = "tensorrt", "tensorrt_rtx"
MODULES = {TENSORRT: TENSORRT, "tensorrt_bindings": TENSORRT, RTX: RTX}
"""Modules to look for, the first one first, and which library each is. ``tensorrt_bindings`` comes without a
library of its own and takes the one that is installed, as in NVIDIA's image of Triton."""

REMEDY = (
    "neither tensorrt nor tensorrt_rtx is installed; to make plans: pip install tensorrt, in the version of"
    " the server that loads them; to check without a card that graphs compile:"
    " pip install 'tritonrec[plans-check]'"
)


class LibraryMissing(RuntimeError):
    """There is no library here that could do what is asked; the message says how to get it."""


@dataclass(frozen=True)
class Library:
    """An installed library.

    `module` is the Python module, `name` TENSORRT or RTX, `version` that of the shared library which does
    the work.
    """

    module: Any
    name: str
    version: str

    @property
    def ships(self) -> bool:
        """Whether what it makes is a plan that Triton loads."""
        return self.name == TENSORRT

    @property
    def label(self) -> str:
        """Name and version, as folders of plans are called."""
        return f"{self.name}-{self.version}"

    @property
    def named_capabilities(self) -> list[Capability] | None:
        """What it compiles for without such a card; None where it compiles for the card that is here."""
        if self.ships:
            return None
        names = self.module.ComputeCapability.__members__
        return sorted(Capability.parse(name) for name in names if name.startswith("SM"))

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find_library(modules: tuple[str, ...] = tuple(MODULES)) -> Library:
    """The first of `modules` that is installed. Raises LibraryMissing."""
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise LibraryMissing(f"{name} needs {error.name}, which is not installed") from error
        except ImportError as error:  # bindings whose shared library is not there
            raise LibraryMissing(f"{name} is installed but cannot be loaded: {error}") from error
        else:
            return Library(module, MODULES[name], _version(module, MODULES[name]))
    raise LibraryMissing(REMEDY)


def _version(module: Any, name: str) -> str:
    """The version of `module`. Raises LibraryMissing where its shared library is of another version.

    Bindings are as old as their wheel says, but the library is whatever the machine has, and a plan fits the
    library.
    """
    version: str = module.__version__
    if name != TENSORRT:
        return version
    major = version.split(".")[0]
    try:
        found = ctypes.CDLL(f"libnvinfer.so.{major}").getInferLibVersion()
    except OSError:  # a wheel's own library, which is not on the linker's path, is as old as the wheel
        return version
    loaded = library_version(found)
    wheel = ".".join(re.findall(r"\d+", version)[:3])
    if loaded != wheel:
        raise LibraryMissing(
            f"tensorrt for Python is {version}, but the machine's libnvinfer is {loaded}, which is what loads"
            f" plans: pip install 'tensorrt=={loaded}.*'"
        )
    return version


def library_version(number: int) -> str:
    """The version that ``getInferLibVersion`` means: 101600 is 10.16.0."""
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


if __name__ == "__main__":  # an image is checked when it is built
    print(find_library())
