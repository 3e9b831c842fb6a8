"""Made-up users whose click rates are known: what exploration logs of them, and what is true.

Pages come from the stage that serves, `Rerank`, and so do the probabilities of both policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from python_backend.catalogue import Catalogue
from python_backend.exploration import Chances, EpsilonGreedy, Exploration, Thompson
from python_backend.stages.rerank import Rerank

ITEMS, CONTEXTS, CANDIDATES = 16, 12, 8
RESULTS, PLACES = 3, 2

Inputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Draws:
    """What was logged, each ``[n]``: one row per place that was drawn.

    Attributes:
        contexts, places, items: whose page, which place, which item (an index).
        propensity: with which the item was drawn.
        rewards: 1 for a click, else 0.
        wanted: the probability with which the policy in question would have shown the item there.
    """

    contexts: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    propensity: npt.NDArray[np.float64]
    rewards: npt.NDArray[np.float64]
    wanted: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Remembered(Chances):
    """`chances`, asked once for rows that repeat: here there are few, and integrals take their time."""

    chances: Chances

    def of(self, items: npt.NDArray[Any], eligible: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        codes = np.where(eligible, items, items + ITEMS + 1).astype(np.int64)
        _, first, row = np.unique(
            codes @ (2 * ITEMS + 2) ** np.arange(codes.shape[1]), return_index=True, return_inverse=True
        )
        return self.chances.of(items[first], eligible[first])[row]


class World:
    """Some kinds of users, each with candidates, the scores that a ranker gives them, and true click rates.

    `logging` draws by `method`, epsilon or thompson; the policy in question, `candidate`, has a ranker of its
    own and draws by the other method. Both may draw every candidate, so that each can stand in for the other.
    """

    def __init__(self, method: str, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        vectors = random.normal(size=(ITEMS + 1, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[0] = 0
        self._catalogue = Catalogue(
            np.arange(-1, ITEMS, dtype=np.int64),
            vectors,
            np.zeros(ITEMS + 1, np.float32),
            np.zeros((ITEMS + 1, 1), np.int32),
            {},
        )
        appeal = random.normal(size=(CONTEXTS, ITEMS + 1))
        self.rates = 1 / (1 + np.exp(0.5 - appeal))
        candidates = np.array([random.permutation(ITEMS)[:CANDIDATES] + 1 for _ in range(CONTEXTS)], np.int32)
        own = np.take_along_axis(appeal, candidates, axis=1)
        views = random.integers(20, 200, ITEMS + 1).astype(float)
        clicks = views * self.rates.mean(axis=0)
        chances: dict[str, Chances] = {
            "epsilon": EpsilonGreedy(0.6, random.uniform(0.5, 1, ITEMS + 1)),
            "thompson": Thompson(1 + clicks / 40, 2 + (views - clicks) / 40),
        }
        (other,) = set(chances) - {method}
        self.logging = self._stage(chances[method], seed)
        self.candidate = self._stage(chances[other], seed + 1)
        self.logging_inputs = self._inputs(candidates, own + random.normal(size=own.shape))
        self.candidate_inputs = self._inputs(candidates, own + random.normal(size=own.shape))

    def draw(self, pages: int, seed: int) -> Draws:
        """What `pages` pages of random users log."""
        random = np.random.default_rng(seed)
        contexts = random.integers(CONTEXTS, size=pages)
        answer = self.logging(_rows(self.logging_inputs, contexts))
        items = (answer["item_id"] + 1).astype(np.int32)
        columns: list[tuple[npt.NDArray[Any], ...]] = []
        for place in range(RESULTS - PLACES, RESULTS):
            item = items[:, place]
            wanted = self._wanted(contexts, place, item, items[:, :place])
            clicked = random.random(pages) < self.rates[contexts, item]
            columns.append(
                (contexts, np.full(pages, place), item, answer["propensity"][:, place], clicked, wanted)
            )
        # Page by page, so that any stretch of rows is a log of its own.
        contexts, places, item, propensity, rewards, wanted = (
            np.stack(column, axis=1).ravel() for column in zip(*columns, strict=True)
        )
        return Draws(
            contexts,
            places,
            item.astype(np.int64),
            propensity.astype(np.float64),
            rewards.astype(np.float64),
            wanted,
        )

    def truth(self) -> float:
        """The mean click rate of what `candidate` would show at the drawn places, worked out exactly."""
        first = RESULTS - PLACES
        contexts = np.arange(CONTEXTS)
        page = self.logging(_rows(self.logging_inputs, contexts))
        # Weighted ways in which the places above can be filled, place after place.
        above, weight = (page["item_id"][:, :first] + 1).astype(np.int32), np.ones(CONTEXTS)
        total = 0.0
        for place in range(first, RESULTS):
            ways = len(contexts)
            everyone = np.repeat(np.arange(ways), ITEMS)
            item = np.tile(np.arange(1, ITEMS + 1, dtype=np.int32), ways)
            wanted = self._wanted(contexts[everyone], place, item, above[everyone])
            total += float((weight[everyone] * wanted * self.rates[contexts[everyone], item]).sum())
            drawn = self.logging.chances(
                _rows(self.logging_inputs, contexts[everyone]), place, item, above[everyone]
            )
            kept = drawn > 0
            weight = (weight[everyone] * drawn)[kept]
            above = np.concatenate([above[everyone], item[:, None]], axis=1)[kept]
            contexts = contexts[everyone][kept]
        return total / CONTEXTS / PLACES

    def _wanted(
        self,
        contexts: npt.NDArray[np.int64],
        place: int,
        items: npt.NDArray[np.int32],
        above: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.float64]:
        return self.candidate.chances(_rows(self.candidate_inputs, contexts), place, items, above)

    def _stage(self, chances: Chances, seed: int) -> Rerank:
        exploration = Exploration(PLACES, CANDIDATES, Remembered(chances), seed=seed)
        return Rerank(
            self._catalogue, RESULTS, similarity_weight=1.0, lift_weight=0.0, exploration=exploration
        )

    @staticmethod
    def _inputs(candidates: npt.NDArray[np.int32], scores: npt.NDArray[np.float64]) -> Inputs:
        rows = len(candidates)
        return {
            "candidate": candidates,
            "rank_score": scores.astype(np.float32),
            "history": np.zeros((rows, 1), np.int32),
            "seen": np.zeros((rows, 1), np.int32),
            "lookup_status": np.zeros((rows, 1), np.int32),
            "diversity": np.full((rows, 1), 0.3, np.float32),
        }


def _rows(inputs: Inputs, contexts: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    return {name: array[contexts] for name, array in inputs.items()}
