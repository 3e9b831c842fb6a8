"""Making the plans of a release, or proving that they could be made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tools.plans.builder import PlanRefused, Recipe, build_plan
from tools.plans.cache import PlanCache, PlanFacts, StoredPlan
from tools.plans.capability import Capability, Card, NoCard, cards_here
from tools.plans.graphs import Graphs
from tools.plans.library import Library

Say = Callable[[str], None]


def recipe_of(graphs: Graphs, stage: str) -> Recipe:
    """What the plan of `stage` is made from."""
    return Recipe(
        graph=graphs.path(stage),
        stage=stage,
        release=graphs.release.name,
        sizes=graphs.release.sizes,
        precision=graphs.precision,
        optimum_batch=graphs.optimum_batch,
        most_rows=graphs.most_rows,
    )


def facts_of(graphs: Graphs, stage: str, capability: Capability, library: str, version: str) -> PlanFacts:
    """What a plan of `stage` must say of itself to be served on a card of `capability`."""
    return PlanFacts(
        stage=stage,
        release=graphs.release.name,
        precision=graphs.precision,
        capability=str(capability),
        library=library,
        version=version,
        graph=graphs.hashes[stage],
        optimum_batch=graphs.optimum_batch,
        most_rows=graphs.most_rows,
    )


def make_plan(
    graphs: Graphs,
    stage: str,
    library: Library,
    capability: Capability,
    cache: PlanCache,
    *,
    say: Say = lambda text: None,
) -> tuple[StoredPlan, bool]:
    """The plan of `stage` for cards of `capability`, and whether it was made now.

    `say` is told when somebody else is making it. Raises PlanRefused, also where `library` makes nothing that
    Triton loads.
    """
    require_shipping(library)
    facts = facts_of(graphs, stage, capability, library.name, library.version)
    timing = cache.timing(library, capability)
    build = partial(build_plan, library, recipe_of(graphs, stage), capability, timing=timing)
    return cache.get(facts, build, say=say)


def compile_check(graphs: Graphs, stage: str, library: Library, capability: Capability) -> int:
    """Compile `stage` for `capability` and keep nothing; the plan's bytes. Raises PlanRefused."""
    return len(build_plan(library, recipe_of(graphs, stage), capability))


def require_shipping(library: Library) -> None:
    """Raise PlanRefused where `library` makes nothing that Triton could load."""
    if not library.ships:
        raise PlanRefused(
            f"{library} makes engines that Triton cannot load, and only checks graphs (--check); plans are"
            " made by TensorRT itself, on a machine with the card: pip install tensorrt, in the server's"
            " version"
        )


def card_for(wanted: Capability | None) -> Card:
    """The card that plans are made for here, or any of the capability `wanted`, where one is named.

    Raises NoCard where there is none, and where there are several kinds of them.
    """
    if wanted is not None:
        return Card("a card", wanted)
    cards = cards_here()
    kinds = sorted({card.capability for card in cards})
    if len(kinds) > 1:
        raise NoCard(
            f"the cards of this machine differ: {', '.join(map(str, cards))}; name one with --capability,"
            " and have CUDA see only such with CUDA_VISIBLE_DEVICES"
        )
    return cards[0]
