"""Plans of one machine, or of several that share a volume: made once, reused while they fit.

A plan fits one release, one library in one version, one compute capability. It lies beside the releases and
never in them, since a release is the same everywhere::

    plans/<release>/<library>-<version>/<stage>_sm90_fp16.plan    and .json, which says what it is
    plans/timing/<library>-<version>_sm90.cache                   how fast TensorRT found its kernels to be
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from tools.plans.builder import write_whole
from tools.plans.capability import Capability
from tools.plans.library import TENSORRT, Library
from tools.releases.manifest import file_hash

FOLDER = "plans"
"""Where plans lie in a build's folder."""


class PlanUnfit(ValueError):
    """A plan that must not be served here, or none at all; the message names it and says what to run."""


@dataclass(frozen=True)
class PlanFacts:
    """What a plan is of and for; two plans with the same facts are as good as each other.

    `graph` is the hash of the ONNX files it was made from.
    """

    stage: str
    release: str
    precision: str
    capability: str
    library: str
    version: str
    graph: str
    optimum_batch: int
    most_rows: int

    @property
    def path(self) -> Path:
        """Where such a plan lies in a folder of plans."""
        name = f"{self.stage}_{Capability.parse(self.capability).sm}_{self.precision}.plan"
        return Path(self.release, f"{self.library}-{self.version}", name)


@dataclass(frozen=True)
class StoredPlan:
    """A plan on disk: its file, its facts, and the hash of its bytes as it was written."""

    path: Path
    facts: PlanFacts
    hash: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """The plan in the file `path`. Raises PlanUnfit where nothing says what it is."""
        try:
            content: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            known = {field.name for field in fields(PlanFacts)}
            facts = PlanFacts(**{name: value for name, value in content.items() if name in known})
            return cls(path, facts, content["hash"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanUnfit(
                f"{path}: {path.with_suffix('.json').name} does not say what it was made from ({error})"
            ) from error

    def problem(self, wanted: PlanFacts) -> str | None:
        """Why this plan is not what is `wanted`, in one line that names it; None where it is."""
        if self.facts.library != TENSORRT == wanted.library:
            return f"{self.path}: {self.facts.library} made it, whose engines Triton cannot load"
        for field in fields(PlanFacts):
            found, expected = getattr(self.facts, field.name), getattr(wanted, field.name)
            if found != expected:
                return f"{self.path}: was made for {field.name} {found}; here it is {expected}"
        if not self.path.is_file():
            return f"{self.path}: is missing"
        if file_hash(self.path) != self.hash:
            return f"{self.path}: is not as it was written"
        return None


class PlanCache:
    """The plans in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, wanted: PlanFacts) -> StoredPlan:
        """The plan with these facts. Raises PlanUnfit, which says why there is none that fits."""
        path = self.folder / wanted.path
        if not path.exists() and not path.with_suffix(".json").exists():
            raise PlanUnfit(f"{path}: is missing{self._others(wanted)}")
        plan = StoredPlan.read(path)
        if problem := plan.problem(wanted):
            raise PlanUnfit(problem)
        return plan

    def plans(self, release: str) -> list[StoredPlan]:
        """All plans of `release` that say what they are, whether they are whole or not."""
        found = []
        for path in sorted((self.folder / release).glob("*/*.plan")):
            with contextlib.suppress(PlanUnfit):
                found.append(StoredPlan.read(path))
        return found

    def get(
        self,
        wanted: PlanFacts,
        build: Callable[[], bytes],
        *,
        say: Callable[[str], None] = lambda text: None,
    ) -> tuple[StoredPlan, bool]:
        """The plan with these facts, and whether it was made now: by `build`, where none fits.

        Somebody else who is making it is waited for, and `say` told so. Whoever is killed leaves nothing that
        could be taken for a plan: what it is is written after it.
        """
        path = self.folder / wanted.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, say):
            with contextlib.suppress(PlanUnfit):
                return self.find(wanted), False
            for leftover in path.parent.glob(f".{path.stem}.*.*"):
                leftover.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            write_whole(path, build())
            plan = StoredPlan(path, wanted, file_hash(path))
            content = {**asdict(wanted), "hash": plan.hash, "bytes": path.stat().st_size}
            write_whole(path.with_suffix(".json"), (json.dumps(content, indent=2) + "\n").encode())
            return plan, True

    def timing(self, library: Library, capability: Capability) -> Path:
        """The file that remembers how fast kernels were on cards of `capability`."""
        return self.folder / "timing" / f"{library.label}_{capability.sm}.cache"

    def _others(self, wanted: PlanFacts) -> str:
        others = [
            f"{plan.path.name} by {plan.facts.library} {plan.facts.version}"
            for plan in self.plans(wanted.release)
            if plan.facts.stage == wanted.stage
        ]
        return f"; there is {', '.join(others)}" if others else ""


@contextlib.contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the plan `path`, a file beside it; it ends with this process at the latest."""
    with path.with_suffix(".lock").open("a+") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"somebody else is making {path.name}; waiting for it")
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield
