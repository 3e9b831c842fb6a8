"""What a build does about plans: all of them where TensorRT and a card are there, the proof that they can be
made where only TensorRT for RTX is."""

from __future__ import annotations

from pathlib import Path

from python_backend.release import Release
from tools.checks import CheckFailed
from tools.plans.builder import PlanRefused, require_supported
from tools.plans.cache import FOLDER, PlanCache
from tools.plans.capability import Capability, NoCard
from tools.plans.graphs import STAGES, Graphs
from tools.plans.library import Library, LibraryMissing, find_library
from tools.plans.making import card_for, compile_check, make_plan
from tools.releases.manifest import note_gpu

CHECKED = (Capability(8, 0), Capability(8, 9), Capability(12, 0))
"""What graphs are compiled for where no card is needed for that: A100, L4 and L40S, and RTX PRO 6000."""


def make_plans_here(build: Path, release: Path) -> str:
    """Make the plans of `release` in the folder `build` if this machine can; in a line what was done.

    What was made or checked is noted in the manifest. Raises CheckFailed where TensorRT refuses a graph.
    """
    graphs = Graphs.of(Release.open(release))
    later = (
        f"every GPU node makes its own with: python tools/make_plans.py --build {build}"
        f" --release {graphs.release.name}"
    )
    try:
        library = find_library()
    except LibraryMissing as error:
        return f"TensorRT plans: none made here ({error}); {later}"
    try:
        if not library.ships:
            names = [str(capability) for capability in check_graphs(graphs, library)]
            checked = {"library": library.name, "version": library.version, "capabilities": names}
            note_gpu(release, {"checked": checked})
            return (
                f"TensorRT plans: {library} compiles both graphs for {', '.join(names)} and keeps nothing;"
                f" {later}"
            )
        card = card_for(None)
        cache = PlanCache(build / FOLDER)
        plans = [make_plan(graphs, stage, library, card.capability, cache)[0] for stage in STAGES]
    except NoCard as error:
        return f"TensorRT plans: none made here ({error}); {later}"
    except PlanRefused as error:
        raise CheckFailed(str(error)) from error
    keys = ("stage", "capability", "precision", "library", "version")
    note_gpu(release, {"plans": [{key: getattr(plan.facts, key) for key in keys} for plan in plans]})
    return f"TensorRT plans: made for {card} by {library} in {plans[0].path.parent}"


def check_graphs(graphs: Graphs, library: Library) -> list[Capability]:
    """Compile every stage for those of `CHECKED` that its precision allows; they. Raises PlanRefused."""
    able = [capability for capability in CHECKED if _supports(library, capability, graphs.precision)]
    for capability in able:
        for stage in STAGES:
            compile_check(graphs, stage, library, capability)
    return able


def _supports(library: Library, capability: Capability, precision: str) -> bool:
    try:
        require_supported(library, capability, precision)
    except PlanRefused:
        return False
    return True
