"""The pages of a batch while they are filled, one place after another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from tritonrec_client.contract import CANDIDATE_CHANNEL, FoundBy

from python_backend.catalogue import AppliedRules, Catalogue
from python_backend.exploration import Exploration
from python_backend.page_loops import compile_loops
from python_backend.stages.base import Array, Arrays


class Page:
    """The pages of a batch while they are filled.

    Columns are the K candidates and then the pinned items. `value` is what a column is worth, -inf once it
    may not be chosen any more; `logits` stay what they were.
    """

    def __init__(self, catalogue: Catalogue, rules: AppliedRules, inputs: Arrays, results: int) -> None:
        candidates = inputs["candidate"]
        batch, self.n_candidates = candidates.shape
        pinned = rules.pinned_items
        self.items = np.empty((batch, self.n_candidates + len(pinned)), np.int32)
        self.items[:, : self.n_candidates], self.items[:, self.n_candidates :] = candidates, pinned
        self.logits, self.probability = np.zeros((2, *self.items.shape), np.float32)
        self._pin_allowed = np.zeros((batch, len(pinned)), bool)
        self._loops = compile_loops()
        self._loops.open(
            self.items, self.n_candidates, np.ascontiguousarray(inputs["rank_score"]),
            np.ascontiguousarray(inputs["seen"]), rules.blocked,
            self.logits, self.probability, self._pin_allowed,
        )  # fmt: skip
        self.value = self.logits.copy()
        self._catalogue, self._rules, self._results = catalogue, rules, results
        self._pin_columns = np.full(results, -1)
        if len(pinned):
            self._pin_columns[rules.pinned_places] = self.n_candidates + np.arange(len(pinned))
        # Nobody looks at them where nothing is capped.
        self._counts = np.zeros((batch, catalogue.code_count if len(rules.caps) else 1), np.int32)
        for number, item in enumerate(pinned if len(rules.caps) else ()):
            self._counts[:, catalogue.codes[item]] += self._pin_allowed[:, [number]]
        # How like the items above a column is, at least, and with how many of them it was compared.
        self._nearest = np.zeros(self.items.shape, np.float32)
        self._compared = np.zeros(self.items.shape, np.int32)
        self._weight = np.zeros(batch, np.float32)
        self._above, self._n_above = np.zeros((batch, results + 1), np.int32), np.zeros(batch, np.int64)
        self._chosen = np.zeros((batch, results), np.int64)
        self._filled, self._pinned, self._drawn = np.zeros((3, batch, results), bool)
        self._propensity = np.ones((batch, results), np.float32)
        self._exploration: Exploration | None = None
        self._drawn_from = results  # the first place that is drawn

    def vary(
        self, diversity: npt.NDArray[np.float32], lift_weight: np.float32, similarity_weight: np.float32
    ) -> None:
        """From now on lift counts, and how alike a column is to what is chosen; `diversity` is [B, 1]."""
        self.value += diversity * lift_weight * self._catalogue.lift[self.items]
        self._weight = diversity[:, 0] * similarity_weight

    def explore(self, exploration: Exploration, explored: npt.NDArray[np.bool_]) -> None:
        """The last places of the rows that are `explored` [B] are drawn."""
        self._exploration, self._explored = exploration, explored
        self._drawn_from = self._results - exploration.places

    def put(self, items: npt.NDArray[np.int32]) -> None:
        """Count each row's item [B], an index, as one that stands on the page, whoever put it there."""
        rows = np.arange(len(items))
        same = self.items == items[:, None]
        pinned = same[:, self.n_candidates :].any(axis=1)
        self.value[same] = -np.inf
        if len(self._rules.caps):
            np.add.at(self._counts, (rows[~pinned, None], self._catalogue.codes[items[~pinned]]), 1)
        self._above[rows, self._n_above] = items
        self._n_above += 1

    def chances(self, place: int, items: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """How likely each row's item [B] is to be chosen for `place`, the next one, float64 [B]."""
        value, rows = self._worth(), np.arange(len(items))
        column = value.argmax(axis=1)
        filled = np.isfinite(value[rows, column])
        found = (filled & (self.items[rows, column] == items)).astype(np.float64)
        if self._exploration is not None and place >= self._drawn_from:
            columns, chances = self._exploration.chances(self.items, value)
            same = self.items[rows[:, None], columns] == items[:, None]
            found = np.where(self._explored, (chances * same).sum(axis=1), found)
        if (pin := self._pin_columns[place]) >= 0:
            pinned = self.items[:, pin] == items
            found = np.where(self._pin_allowed[:, pin - self.n_candidates], pinned, found)
        return found

    def fill(self, places: int) -> None:
        """Fill the first `places` of every row, each with its best open column, or with one that is drawn."""
        self._fill(0, min(places, self._drawn_from), np.full(len(self.items), -1))
        for place in range(self._drawn_from, places):
            self._fill(place, place + 1, self._draw(place))

    def finish(self, inputs: Arrays) -> dict[str, Array]:
        """The contract's outputs; places that stayed empty go to the end."""
        batch, history = len(self.items), inputs["history"]
        found_by = inputs.get(CANDIDATE_CHANNEL.name)
        if found_by is None:  # a release with one channel
            found_by = np.full((batch, self.n_candidates), FoundBy.TRANSFORMER, np.int32)
        item_id, because = np.empty((2, batch, self._results), np.int64)
        score, propensity = np.empty((2, batch, self._results), np.float32)
        reason, channel = np.empty((2, batch, self._results), np.int32)
        status = np.empty((batch, 1), np.int32)
        self._loops.finish(
            self.items, self.logits, self.probability, self._chosen, self._filled, self._pinned, self._drawn,
            self._propensity, np.ascontiguousarray(history), np.ascontiguousarray(found_by),
            self._catalogue.vectors, self._catalogue.wire_ids, np.ascontiguousarray(inputs["lookup_status"]),
            item_id, score, reason, channel, because, propensity, status,
        )  # fmt: skip
        return {
            "item_id": item_id,
            "score": score,
            "reason": reason,
            "channel": channel,
            "because": because,
            "propensity": propensity,
            "status": status,
        }

    def _filling(self) -> tuple[Array, ...]:
        """What is worth what, as the loops take it."""
        catalogue = self._catalogue
        return (
            self.items, self.value, self._nearest, self._compared, self._above, self._n_above, self._weight,
            catalogue.vectors, catalogue.codes, self._rules.caps, self._counts,
        )  # fmt: skip

    def _worth(self) -> npt.NDArray[np.float32]:
        """What each column is worth for the next place, [B, columns]; -inf where it may not stand there."""
        value = np.empty(self.items.shape, np.float32)
        self._loops.worth(*self._filling(), value)
        return value

    def _fill(self, begin: int, end: int, drawn: npt.NDArray[np.int64]) -> None:
        self._loops.fill(
            *self._filling(), begin, end, drawn,
            self._pin_columns, self._pin_allowed, self._chosen, self._filled, self._pinned,
        )  # fmt: skip

    def _draw(self, place: int) -> npt.NDArray[np.int64]:
        """A column for `place` of each row that is explored, -1 for the others."""
        assert self._exploration is not None
        value, rows = self._worth(), np.arange(len(self.items))
        columns, chances = self._exploration.chances(self.items, value)
        drawn = self._exploration.draw(chances)
        column, chance = columns[rows, drawn], chances[rows, drawn]
        some = self._explored & (chance > 0)
        if (pin := self._pin_columns[place]) >= 0:
            some &= ~self._pin_allowed[:, pin - self.n_candidates]
        uncertain = some & (chance < 1)  # 1 says that there was nothing to draw from
        below_one = np.minimum(chance.astype(np.float32), np.nextafter(np.float32(1), np.float32(0)))
        self._propensity[:, place] = np.where(uncertain, below_one, 1)
        self._drawn[:, place] = uncertain & (column != value.argmax(axis=1))
        return np.where(some, column, -1)
