"""The stages' code that a release carries, and the loops in it that are compiled for this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

from python_backend import history_loop, merge_loop, page_loops

ROOT = Path(__file__).parents[2]
CODE = {
    "python_backend": ROOT / "python_backend",
    "tritonrec_client": ROOT / "clients" / "tritonrec_client",
}
"""The packages that a release carries, because its answers depend on them."""

COMPILED = (".nbi", ".nbc")
"""What numba keeps beside the files of the loops that it has compiled."""


def write_code(folder: Path) -> None:
    """Copy the stages' code into `folder`, with the loops that were compiled for this machine's processor.

    Each release's stages would compile them anew otherwise, which takes seconds.
    """
    history_loop.compile_loop()
    merge_loop.compile_loop()
    page_loops.compile_loops()
    for package, source in CODE.items():
        shutil.copytree(source, folder / package, ignore=_not_code)


def _not_code(folder: str, names: list[str]) -> set[str]:
    if Path(folder).name == "__pycache__":
        return {name for name in names if not name.endswith(COMPILED)}
    return {name for name in names if name.endswith(".egg-info")}
