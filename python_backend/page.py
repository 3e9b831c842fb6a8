"""The pages of a batch while they are filled, one place after another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from tritonrec_client.contract import CANDIDATE_CHANNEL, PADDING_ID, FoundBy, Reason, Status

from python_backend.catalogue import AppliedRules, Catalogue
from python_backend.exploration import Exploration
from python_backend.stages.base import Array, Arrays


class Page:
    """The pages of a batch while they are filled.

    Columns are the K candidates and then the pinned items. `value` is what a column is worth, -inf once it
    may not be chosen any more; `logits` stay what they were.
    """

    def __init__(self, catalogue: Catalogue, rules: AppliedRules, inputs: Arrays, results: int) -> None:
        candidates = inputs["candidate"]
        batch, self.n_candidates = candidates.shape
        self.rows = np.arange(batch)
        self._catalogue, self._rules = catalogue, rules
        pinned = np.array(list(rules.pinned.values()), dtype=candidates.dtype)
        self.items = np.concatenate([candidates, np.broadcast_to(pinned, (batch, len(pinned)))], axis=1)
        allowed = ~rules.blocked[self.items] & ~_rows_contain(inputs["seen"], self.items)
        self.logits = np.full(self.items.shape, -np.inf, dtype=np.float32)
        self.logits[:, : self.n_candidates] = inputs["rank_score"]
        self.logits[~allowed] = -np.inf
        self.probability = _softmax(self.logits)
        if len(pinned):
            # A pinned item keeps the probability it has as a candidate and is not chosen a second time.
            same = self.items[:, : self.n_candidates, None] == pinned
            own = (self.probability[:, : self.n_candidates, None] * same).sum(axis=1)
            self.probability[:, self.n_candidates :] = own
            self.logits[:, : self.n_candidates][same.any(axis=2)] = -np.inf
        self.value = self.logits.copy()
        self._pin_allowed = allowed[:, self.n_candidates :]
        self._pin_column = {place: number for number, place in enumerate(rules.pinned)}
        self._by_score = np.sort(self.logits, axis=1)[:, -min(results, self.logits.shape[1])]
        self._counts = np.zeros((batch, catalogue.code_count), dtype=np.int32)
        for number, item in enumerate(pinned):
            self._counts[:, catalogue.codes[item]] += self._pin_allowed[:, [number]]
        self._chosen = np.zeros((batch, results), dtype=np.int64)
        self._filled = np.zeros((batch, results), dtype=bool)
        self._pinned = np.zeros((batch, results), dtype=bool)
        self._lifted = np.zeros((batch, results), dtype=bool)
        self._drawn = np.zeros((batch, results), dtype=bool)
        self._propensity = np.ones((batch, results), dtype=np.float32)
        self._results = results
        self._vectors: npt.NDArray[np.float32] | None = None
        self._exploration: Exploration | None = None

    def vary(
        self, diversity: npt.NDArray[np.float32], lift_weight: np.float32, similarity_weight: np.float32
    ) -> None:
        """From now on lift counts, and how alike a column is to what is chosen; `diversity` is [B, 1]."""
        self.value += diversity * lift_weight * self._catalogue.lift[self.items]
        self._vectors = self._catalogue.vectors[self.items]
        self._nearest = np.zeros(self.items.shape, dtype=np.float32)
        self._weight = diversity * similarity_weight

    def explore(self, exploration: Exploration, explored: npt.NDArray[np.bool_]) -> None:
        """The last places of the rows that are `explored` [B] are drawn."""
        self._exploration, self._explored = exploration, explored

    def put(self, items: npt.NDArray[np.int32]) -> None:
        """Count each row's item [B], an index, as one that stands on the page, whoever put it there."""
        same = self.items == items[:, None]
        pinned = same[:, self.n_candidates :].any(axis=1)
        self.value[same] = -np.inf
        np.add.at(self._counts, (self.rows[~pinned, None], self._catalogue.codes[items[~pinned]]), 1)
        if self._vectors is not None:
            picked = self._catalogue.vectors[items]
            np.maximum(self._nearest, (self._vectors @ picked[:, :, None])[:, :, 0], out=self._nearest)

    def chances(self, place: int, items: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """How likely each row's item [B] is to be chosen for `place`, the next one, float64 [B]."""
        value = self._worth()
        column = value.argmax(axis=1)
        filled = np.isfinite(value[self.rows, column])
        found = (filled & (self.items[self.rows, column] == items)).astype(np.float64)
        if (exploration := self._exploration_of(place)) is not None:
            columns, chances = exploration.chances(self.items, value)
            same = self.items[self.rows[:, None], columns] == items[:, None]
            found = np.where(self._explored, (chances * same).sum(axis=1), found)
        if place in self._pin_column:
            number = self._pin_column[place]
            pinned = self.items[:, self.n_candidates + number] == items
            found = np.where(self._pin_allowed[:, number], pinned, found)
        return found

    def _exploration_of(self, place: int) -> Exploration | None:
        if self._exploration is None or place < self._results - self._exploration.places:
            return None
        return self._exploration

    def _worth(self) -> npt.NDArray[np.float32]:
        """What each column is worth for the next place, [B, columns]; -inf where it may not stand there."""
        value = self.value if self._vectors is None else self.value - self._weight * self._nearest
        for columns, at_most in self._rules.caps:
            codes = self._catalogue.codes[self.items][..., columns]
            used = self._counts[self.rows[:, None, None], codes] * (codes != 0)
            value = np.where((used >= at_most).any(axis=2), -np.inf, value)
        return value

    def choose(self, place: int) -> None:
        """Fill `place` of every row with its best open column, or with one that is drawn."""
        value = self._worth()
        column = value.argmax(axis=1)
        filled = np.isfinite(value[self.rows, column])
        if (exploration := self._exploration_of(place)) is not None:
            column = self._draw(exploration, place, value, column)
        self._lifted[:, place] = self.logits[self.rows, column] < self._by_score
        if place in self._pin_column:
            number = self._pin_column[place]
            pin = self._pin_allowed[:, number]
            column = np.where(pin, self.n_candidates + number, column)
            filled |= pin
            self._pinned[:, place] = pin
            self._propensity[pin, place] = 1
        self._chosen[:, place] = column
        self._filled[:, place] = filled
        self.value[self.rows, column] = -np.inf
        if self._rules.caps:
            fresh = filled & ~self._pinned[:, place]  # pinned items were counted at the start
            codes = self._catalogue.codes[self.items[self.rows, column]] * fresh[:, None]
            np.add.at(self._counts, (self.rows[:, None], codes), 1)
        if self._vectors is not None:
            picked = self._vectors[self.rows, column]
            np.maximum(self._nearest, (self._vectors @ picked[:, :, None])[:, :, 0], out=self._nearest)

    def _draw(
        self,
        exploration: Exploration,
        place: int,
        value: npt.NDArray[np.float32],
        best: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.int64]:
        """A column for `place` of each row that is explored, its `best` for the others."""
        columns, chances = exploration.chances(self.items, value)
        drawn = exploration.draw(chances)
        column = np.where(self._explored, columns[self.rows, drawn], best)
        chance = chances[self.rows, drawn]
        # 1 says that there was nothing to draw from.
        below_one = np.minimum(chance.astype(np.float32), np.nextafter(np.float32(1), np.float32(0)))
        some = self._explored & (chance > 0) & (chance < 1)
        self._propensity[:, place] = np.where(some, below_one, 1)
        self._drawn[:, place] = some & (column != best)
        return column

    def finish(self, inputs: Arrays) -> dict[str, Array]:
        """The contract's outputs; places that stayed empty go to the end."""
        rows = self.rows[:, None]
        order = np.argsort(~self._filled, axis=1, kind="stable")
        filled, chosen = self._filled[rows, order], self._chosen[rows, order]
        known = (inputs["history"] != 0).any(axis=1, keepdims=True)
        reason = np.where(known, Reason.HISTORY, Reason.POPULAR)
        reason = np.where(self._lifted[rows, order], Reason.VARIETY, reason)
        reason = np.where(self._drawn[rows, order], Reason.EXPLORED, reason)
        reason = np.where(self._pinned[rows, order], Reason.PINNED, reason)
        status = inputs["lookup_status"] | np.where(filled.all(axis=1, keepdims=True), 0, Status.SHORT_PAGE)
        items = self._catalogue.wire_ids[self.items[rows, chosen]]
        ranked = filled & ~np.isin(reason, [Reason.PINNED, Reason.EXPLORED])
        return {
            "item_id": np.where(filled, items, PADDING_ID),
            "score": np.where(filled, self.probability[rows, chosen], 0).astype(np.float32),
            "reason": np.where(filled, reason, Reason.PADDING).astype(np.int32),
            "channel": np.where(ranked, self._channels(inputs, chosen), FoundBy.NONE).astype(np.int32),
            "because": np.where(filled, self._nearest_of_history(inputs, chosen), PADDING_ID),
            "propensity": np.where(filled, self._propensity[rows, order], 1).astype(np.float32),
            "status": status.astype(np.int32),
        }

    def _channels(self, inputs: Arrays, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The kind of channel that found each of the `chosen` columns ``[B, N]``; any for pinned ones."""
        found = inputs.get(CANDIDATE_CHANNEL.name)
        if found is None:  # a release with one channel
            return np.full(chosen.shape, FoundBy.TRANSFORMER, np.int32)
        return found[self.rows[:, None], np.minimum(chosen, self.n_candidates - 1)]

    def _nearest_of_history(self, inputs: Arrays, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The item of the history that is most like each of the `chosen` ``[B, N]``: its wire id, or -1."""
        vectors, history, rows = self._catalogue.vectors, inputs["history"], self.rows[:, None]
        # Gathered already where the page is varied.
        mine = vectors[self.items[rows, chosen]] if self._vectors is None else self._vectors[rows, chosen]
        alike = mine @ vectors[history].transpose(0, 2, 1)
        nearest = alike.argmax(axis=2)
        # The vector of padding is zero, so this also holds where there is no history.
        near = alike.max(axis=2) > 0
        return np.where(near, self._catalogue.wire_ids[history[self.rows[:, None], nearest]], PADDING_ID)


def _rows_contain(haystack: npt.NDArray[np.int32], needles: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which of each row's `needles` [B, n] are in the same row of `haystack` [B, m], as bool [B, n]."""
    span = int(max(haystack.max(initial=0), needles.max(initial=0))) + 1
    offset = np.arange(len(needles), dtype=np.int64)[:, None] * span
    return np.isin(needles + offset, haystack + offset)


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Over the last axis; a row without a finite logit becomes zeros."""
    highest = logits.max(axis=1, keepdims=True, initial=-np.inf)
    weights = np.exp(logits - np.where(np.isfinite(highest), highest, 0))
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
