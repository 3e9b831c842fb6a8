"""The parts of the benchmark: what each needs, what it fills of the table, and how it is run."""

from __future__ import annotations

import importlib.util
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from python_backend.release import Release
from tools.gpu.card import Card
from tools.gpu.clock import Clock
from tools.gpu.rows import FAILED, NOT_RUN, Row

PACKAGES = {
    "pytriton": "nvidia-pytriton",
    "grpc": "grpcio",
    "google.protobuf": "protobuf",
    "rapidjson": "python-rapidjson",
    "ml_dtypes": "ml-dtypes",
}
"""What is to be installed for a module of another name."""
MOST_WORDS = 300
"""Letters of a failure that fit into the table; JSON has all of it."""


@dataclass
class Bench:
    """What the sections share.

    Attributes:
        folder: theirs to write in.
        given: the release to serve, and where its users are; None where one is to be made up.
        until: when no further work should begin, on the clock of `time.perf_counter`.
        quick: whether this only tries the command.
    """

    card: Card
    clock: Clock
    folder: Path
    given: tuple[Release, str | None] | None
    until: float
    quick: bool = False
    seed: int = 1
    _release: tuple[Release, str | None] | None = field(default=None, init=False)
    _stages: dict[str, Any] = field(default_factory=dict, init=False)

    @property
    def release(self) -> tuple[Release, str | None]:
        """A release that the profile gpu_torch can serve, and its store's URL, if there is one."""
        if self._release is None:
            self._release = self.given or self._made_up()
        return self._release

    def stage(self, scan: str) -> Any:
        """The release's `RetrieveAndRank` on the card, loaded once."""
        from python_backend.gpu.stage import RetrieveAndRank

        if scan not in self._stages:
            options = {"device": self.card.device.type, "scan": scan}
            self._stages[scan] = RetrieveAndRank.load(self.release[0], options)
        return self._stages[scan]

    def _made_up(self) -> tuple[Release, str | None]:
        from tools.gpu.made_up import make_up

        n_items = 1_000 if self.quick else 100_000
        return make_up(self.folder / "made-up", n_items, n_users=200 if self.quick else 2_000, seed=self.seed)


Figures = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Section:
    """One part: `run` gives figures for JSON and the rows, by the keys of `rows`.

    `needs` are modules; `needs_to_make_up` those without which a release must be given.
    """

    name: str
    rows: Mapping[str, Row]
    run: Callable[[Bench, Mapping[str, Row], Say], tuple[Figures, Mapping[str, Row]]]
    needs: Sequence[str] = ()
    needs_to_make_up: Sequence[str] = ()


def run_section(section: Section, bench: Bench, say: Say) -> tuple[Figures, list[Row]]:
    """The section's figures and rows; every row is there, whatever happens."""
    reason = why_not(section, bench)
    if reason:
        return {}, [row.without(NOT_RUN + reason) for row in section.rows.values()]
    try:
        figures, found = section.run(bench, section.rows, say)
    except Exception as error:  # the other sections may still say something
        problem = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no word'}"
        rows = [row.without(FAILED + problem[:MOST_WORDS]) for row in section.rows.values()]
        return {"error": traceback.format_exc()}, rows
    finally:
        bench.card.release_memory()
    return figures, [found.get(key, row.without(NOT_RUN + "no figure")) for key, row in section.rows.items()]


def why_not(section: Section, bench: Bench) -> str | None:
    """What keeps a section from running, in words; None where nothing does."""
    if time.perf_counter() > bench.until:
        return "no time was left"
    needs = [*section.needs, *(section.needs_to_make_up if bench.given is None else ())]
    missing = list(dict.fromkeys(PACKAGES.get(name, name) for name in needs if not is_there(name)))
    if not missing:
        return None
    other = "" if bench.given or set(missing) <= set(section.needs) else ", or a release (--release)"
    return f"needs {', '.join(missing)}{other}"


def is_there(module: str) -> bool:
    """Whether a module could be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
