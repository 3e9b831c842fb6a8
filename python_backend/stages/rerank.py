"""rerank: from scored candidates to a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from python_backend.catalogue import AppliedRules, Catalogue
from python_backend.exploration import Exploration
from python_backend.page import Page
from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, InvalidRequest, Stage

if TYPE_CHECKING:
    from python_backend.rules import RulesFile


class Rerank(Stage):
    """Picks a page of N items, one place after another, for all rows of a batch at once.

    Maximal marginal relevance (Carbonell & Goldstein 1998): each place goes to the item with the highest
    logit + diversity · (lift_weight · lift − similarity_weight · greatest similarity to the items above).
    A diversity of 0 keeps the ranker's order exactly. No seen and no blocked item passes,
    whatever came before; pinned items take their places, on a short page the nearest ones. Caps hold for
    every page: pinned items count, wherever they stand, and alone may exceed a cap.

    With an `exploration` the last places are drawn instead, from the best of what may stand there, but for
    pinned items and but for rows of diversity 0. The places above them are the same with and without.
    """

    name = "rerank"

    def __init__(
        self,
        catalogue: Catalogue,
        results: int,
        *,
        similarity_weight: float,
        lift_weight: float,
        rules: RulesFile | None = None,
        exploration: Exploration | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._results = results
        self._similarity_weight = np.float32(similarity_weight)
        self._lift_weight = np.float32(lift_weight)
        self._exploration = exploration
        self._rules_file = rules
        self._rules = (
            AppliedRules.of(rules.rules, catalogue, results) if rules else AppliedRules.none(catalogue)
        )

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """`options`: ``rules_file``, the path of a rules file (empty: no rules).

        Raises InvalidRules where that file cannot be used.
        """
        weights = json.loads((release.artifacts / "rerank.json").read_text(encoding="utf-8"))
        path = options.get("rules_file", "")
        rules = None
        if path:
            # Only then: it brings pydantic, a fifth of the time that a release takes to load.
            from python_backend.rules import RulesFile

            rules = RulesFile(Path(path))
        return cls(
            Catalogue.read(release.artifacts),
            release.sizes.results,
            rules=rules,
            exploration=Exploration.read(release.artifacts),
            **weights,
        )

    def check(self, inputs: Arrays) -> None:
        diversity = inputs["diversity"]
        if not (diversity.min(initial=0) >= 0 and diversity.max(initial=0) <= 1):  # NaN is neither
            wrong = diversity[~((diversity >= 0) & (diversity <= 1))]
            raise InvalidRequest("diversity", float(wrong.flat[0]), "a number from 0 to 1")

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        if self._rules_file is not None and self._rules_file.changed():
            self._rules = AppliedRules.of(self._rules_file.rules, self._catalogue, self._results)
        return self._fill(inputs, self._results).finish(inputs)

    def chances(
        self,
        inputs: Arrays,
        place: int,
        items: npt.NDArray[np.int32],
        above: npt.NDArray[np.int32] | None = None,
    ) -> npt.NDArray[np.float64]:
        """How likely each row's item is to be shown at `place` (from 0), given what stands above it.

        `items` are indices ``[B]``; the result is float64 ``[B]``. `above` are the items of the places above,
        ``[B, place]``, candidates or not; 0 is one that this release does not have. Without them it is what
        the stage puts there now, drawn where it draws.
        """
        if above is None:
            return self._fill(inputs, place).chances(place, items)
        page = self._fill(inputs, 0)
        for each in above.T:
            page.put(each)
        return page.chances(place, items)

    def _fill(self, inputs: Arrays, places: int) -> Page:
        """The first `places` places of every row's page."""
        page = Page(self._catalogue, self._rules, inputs, self._results)
        diversity = inputs["diversity"].astype(np.float32)
        if diversity.max(initial=0) > 0:
            page.vary(diversity, self._lift_weight, self._similarity_weight)
            if self._exploration is not None:
                page.explore(self._exploration, diversity[:, 0] > 0)
        page.fill(places)
        return page
