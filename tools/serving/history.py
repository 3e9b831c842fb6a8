"""Which release was active when: one line per activation, in ``activations.jsonl`` of the build folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE = "activations.jsonl"


@dataclass(frozen=True, slots=True)
class Activation:
    """That `release` became active.

    Attributes:
        release: its name.
        previous: the release that was active before, if there was one.
        how: ``activate``, ``rollback``, ``offline``, ``serve`` or ``repair``.
        at: when, ISO 8601 in UTC.
        forced: the reason that was given for passing over the gates.
    """

    release: str
    previous: str | None
    how: str
    at: str = ""
    forced: str | None = None


def read_activations(build: Path) -> list[Activation]:
    """Every activation in the folder `build`, oldest first; a line that a crash cut off is left out."""
    path = build / FILE
    if not path.exists():
        return []
    activations = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            activations.append(Activation(**json.loads(line)))
        except (TypeError, ValueError):
            continue
    return activations


def note_activation(build: Path, activation: Activation) -> None:
    """Append `activation`, with the time if it has none, unless its release was noted last."""
    known = read_activations(build)
    if known and known[-1].release == activation.release:
        return
    content = asdict(activation)
    content["at"] = activation.at or datetime.now(UTC).isoformat(timespec="seconds")
    with (build / FILE).open("a+", encoding="utf-8") as file:
        # A line that was cut off stays on its own.
        file.seek(0)
        text = file.read()
        if text and not text.endswith("\n"):
            file.write("\n")
        file.write(json.dumps(content) + "\n")
        file.flush()
        os.fsync(file.fileno())


def previous_release(build: Path, active: str) -> str | None:
    """The release that was active before the release `active` became so; None where none was noted."""
    for activation in reversed(read_activations(build)):
        if activation.release == active:
            return activation.previous
    return None
