"""A release folder as the stages see it: its name, its widths and its artifacts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tritonrec_client.contract import Sizes

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Release:
    """An opened release.

    `name` is 12 hexadecimal digits, `sizes` the widths it was built with, `path` its folder, and `step` where
    a step of it has its files among the artifacts.
    """

    name: str
    sizes: Sizes
    path: Path
    step: str = "."

    @classmethod
    def open(cls, path: Path) -> Self:
        """The release in the folder `path`.

        Raises FileNotFoundError where there is no manifest and ValueError where it cannot be read.
        """
        manifest = path / MANIFEST
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            return cls(content["release"], Sizes(**content["sizes"]), path)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{manifest}: not a release's manifest ({error})") from error

    @property
    def artifacts(self) -> Path:
        """The folder of what was trained: graphs, item arrays, encoders."""
        return self.path / "artifacts" / self.step
