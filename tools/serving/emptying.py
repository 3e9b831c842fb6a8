"""A served repository whose models compute nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

EMPTY_MODEL = Path(__file__).with_name("empty_model.py")


def write_emptied_repository(served: Path, folder: Path) -> None:
    """Copy the repository `served` to `folder`, with `empty_model.py` in each stage's place.

    Configurations stay what they are: the same tensors travel on the same ways. What is in `folder` is
    replaced.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(served, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for model in folder.glob("*/1/model.py"):
        shutil.copyfile(EMPTY_MODEL, model)
