"""Plans in the repository that Triton serves: linked in, and named in the models' configurations."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tritonclient.grpc.model_config_pb2 import ModelConfig

from python_backend.release import Release
from tools.plans.cache import PlanCache, PlanUnfit, StoredPlan
from tools.plans.capability import Capability
from tools.plans.graphs import PROFILE, STAGES, Graphs
from tools.plans.library import find_library
from tools.plans.making import card_for, facts_of, require_shipping

NOTE = "plans.json"
CONFIG = f"configs/{PROFILE}.pbtxt"


@dataclass(frozen=True)
class PlanSource:
    """Which plans a repository serves: those in `folder` by this `library` in this `version`.

    `capabilities` are the cards' that are to serve; each model needs a plan for every one of them.
    """

    folder: str
    library: str
    version: str
    capabilities: tuple[str, ...]

    @classmethod
    def here(cls, folder: Path, capability: Capability | None = None) -> Self:
        """Those in `folder` for the card of this machine, or for `capability`, by the TensorRT that is here.

        Raises LibraryMissing, NoCard, and PlanRefused where the library is one whose engines are not served.
        """
        library = find_library()
        require_shipping(library)
        card = card_for(capability)
        return cls(str(folder.resolve()), library.name, library.version, (str(card.capability),))

    def plans(self, release: Release, stage: str) -> dict[str, StoredPlan]:
        """The plans of `stage` by capability. Raises PlanUnfit and NoGraphsError, which say what to run."""
        graphs, cache = Graphs.of(release), PlanCache(Path(self.folder))
        found = {}
        for capability in self.capabilities:
            wanted = facts_of(graphs, stage, Capability.parse(capability), self.library, self.version)
            try:
                found[capability] = cache.find(wanted)
            except PlanUnfit as error:
                raise PlanUnfit(f"{error}; make it with: {self.command(release, capability)}") from error
        for plan in cache.plans(release.name):
            # A volume may hold those of other nodes, too.
            facts = plan.facts
            wanted = facts_of(graphs, stage, Capability.parse(facts.capability), self.library, self.version)
            if facts.capability not in found and facts == wanted and plan.problem(wanted) is None:
                found[facts.capability] = plan
        return found

    def command(self, release: Release, capability: str) -> str:
        """What makes the plans of `release`, for a person to copy."""
        build = release.path.parent.parent
        place = "" if Path(self.folder) == build / "plans" else f" --plans {self.folder}"
        return (
            f"python tools/make_plans.py --build {build} --release {release.name}{place}"
            f" --capability {capability}"
        )

    def place(self, release: Release, stage: str, model: Path, config: ModelConfig) -> None:
        """Link the plans of `stage` into the folder `model` of a repository, and name them in `config`.

        Models that TensorRT does not compute stay what they are. Raises PlanUnfit and NoGraphsError.
        """
        if stage not in STAGES:
            return
        version = model / "1"
        version.mkdir(exist_ok=True)
        for capability, plan in sorted(self.plans(release, stage).items()):
            name = f"model_{Capability.parse(capability).sm}.plan"
            (version / name).symlink_to(plan.path.resolve())
            config.cc_model_filenames[capability] = name

    def write(self, folder: Path) -> None:
        """Keep this in the repository `folder`, for the releases that are activated while it is served."""
        (folder / NOTE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What the repository `folder` serves plans from; None where it serves none."""
        path = folder / NOTE
        if not path.is_file():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**content, "capabilities": tuple(content["capabilities"])})
