"""rerank: from scored candidates to a page."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from tritonrec_client.contract import CANDIDATE_CHANNEL, PADDING_ID, FoundBy, Reason, Status
from tritonrec_client.ids import wire_id

from python_backend.features import FeatureEncoder
from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, InvalidRequest, Stage

if TYPE_CHECKING:
    from python_backend.rules import Rules, RulesFile

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Catalogue:
    """What rerank knows of a release's items; row 0 is padding.

    Attributes:
        wire_ids: int64 ``[I + 1]``.
        vectors: float32 ``[I + 1, d]``, of length 1: their product is how alike two items are.
        lift: float32 ``[I + 1]``, at least 0: what an item that is hardly ever shown lacks, in logits, to
            come onto the pages of the users who want it most.
        codes: int32 ``[I + 1, columns]``, feature codes.
        fields: each feature's columns among `codes`.
    """

    wire_ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    lift: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int32]
    fields: Mapping[str, slice]

    @classmethod
    def read(cls, artifacts: Path) -> Self:
        """From ``items.npz``, ``item_vectors.npy`` (mapped into memory) and ``item_features.json``."""
        encoder = FeatureEncoder.from_json((artifacts / "item_features.json").read_text(encoding="utf-8"))
        with np.load(artifacts / "items.npz") as arrays:
            return cls(
                arrays["wire_id"],
                np.asarray(np.load(artifacts / "item_vectors.npy", mmap_mode="r")),
                arrays["lift"],
                arrays["codes"],
                {field.name: slice(field.start, field.start + field.slots) for field in encoder.fields},
            )

    @cached_property
    def code_count(self) -> int:
        """How many feature codes there may be, code 0 included; counted once, not for every page."""
        return int(self.codes.max(initial=0)) + 1

    def index(self, item: int | str) -> int:
        """The index of an item by the data's own id; 0 where this release does not have it."""
        found = np.flatnonzero(self.wire_ids[1:] == wire_id(item))
        return int(found[0]) + 1 if len(found) else 0


@dataclass(frozen=True)
class _AppliedRules:
    """Rules in the indices of a release."""

    blocked: npt.NDArray[np.bool_]  # [I + 1]
    pinned: dict[int, int]  # place from 0 → item
    caps: list[tuple[slice, int]]  # columns of the codes, at most

    @classmethod
    def none(cls, catalogue: Catalogue) -> Self:
        """No rules; only padding is never shown."""
        blocked = np.zeros(len(catalogue.wire_ids), dtype=bool)
        blocked[0] = True
        return cls(blocked, {}, [])

    @classmethod
    def of(cls, rules: Rules, catalogue: Catalogue, results: int) -> Self:
        """What of `rules` this release and its pages of `results` places can follow; the rest is logged."""
        blocked = np.zeros(len(catalogue.wire_ids), dtype=bool)
        for item in rules.blocked:
            index = catalogue.index(item)
            blocked[index] = True
            if not index:
                LOGGER.warning("rules: blocked: the release has no item %r", item)
        blocked[0] = True
        pinned = {}
        for pin in rules.pinned:
            index = catalogue.index(pin.item)
            if not index:
                LOGGER.warning("rules: pinned: the release has no item %r", pin.item)
            elif blocked[index]:
                LOGGER.warning("rules: pinned: item %r is not shown; it is blocked", pin.item)
            elif pin.position > results:
                LOGGER.error(
                    "rules: pinned: position %d is ignored; a page has %d places", pin.position, results
                )
            else:
                pinned[pin.position - 1] = index
        caps = []
        for cap in rules.caps:
            if cap.field in catalogue.fields:
                caps.append((catalogue.fields[cap.field], cap.at_most))
            else:
                known = ", ".join(sorted(catalogue.fields)) or "none"
                LOGGER.error("rules: caps: field %r is ignored; the release has %s", cap.field, known)
        return cls(blocked, pinned, caps)


class Rerank(Stage):
    """Picks a page of N items, one place after another, for all rows of a batch at once.

    Maximal marginal relevance (Carbonell & Goldstein 1998): each place goes to the item with the highest
    logit + diversity · (lift_weight · lift − similarity_weight · greatest similarity to the items above).
    A diversity of 0 keeps the ranker's order exactly. No seen and no blocked item passes,
    whatever came before; pinned items take their places, on a short page the nearest ones. Caps hold for
    every page: pinned items count, wherever they stand, and alone may exceed a cap.
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
    ) -> None:
        self._catalogue = catalogue
        self._results = results
        self._similarity_weight = np.float32(similarity_weight)
        self._lift_weight = np.float32(lift_weight)
        self._rules_file = rules
        self._rules = (
            _AppliedRules.of(rules.rules, catalogue, results) if rules else _AppliedRules.none(catalogue)
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
        return cls(Catalogue.read(release.artifacts), release.sizes.results, rules=rules, **weights)

    def check(self, inputs: Arrays) -> None:
        diversity = inputs["diversity"]
        if not np.all((diversity >= 0) & (diversity <= 1)):
            wrong = diversity[~((diversity >= 0) & (diversity <= 1))]
            raise InvalidRequest("diversity", float(wrong.flat[0]), "a number from 0 to 1")

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        if self._rules_file is not None and self._rules_file.changed():
            self._rules = _AppliedRules.of(self._rules_file.rules, self._catalogue, self._results)
        rules, catalogue = self._rules, self._catalogue
        page = _Page(catalogue, rules, inputs, self._results)
        diversity = inputs["diversity"].astype(np.float32)
        if not np.any(diversity > 0):
            for place in range(self._results):
                page.choose(place, page.value)
            return page.finish(inputs)
        page.value += diversity * self._lift_weight * catalogue.lift[page.items]
        vectors = catalogue.vectors[page.items]
        nearest = np.zeros(page.items.shape, dtype=np.float32)
        weight = diversity * self._similarity_weight
        for place in range(self._results):
            column = page.choose(place, page.value - weight * nearest)
            picked = vectors[page.rows, column]
            np.maximum(nearest, (vectors @ picked[:, :, None])[:, :, 0], out=nearest)
        return page.finish(inputs)


class _Page:
    """The pages of a batch while they are filled.

    Columns are the K candidates and then the pinned items. `value` is what a column is worth, -inf once it
    may not be chosen any more; `logits` stay what they were.
    """

    def __init__(self, catalogue: Catalogue, rules: _AppliedRules, inputs: Arrays, results: int) -> None:
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

    def choose(self, place: int, value: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Fill `place` of every row with its best open column by `value` [B, columns]; return the columns."""
        for columns, at_most in self._rules.caps:
            codes = self._catalogue.codes[self.items][..., columns]
            used = self._counts[self.rows[:, None, None], codes] * (codes != 0)
            value = np.where((used >= at_most).any(axis=2), -np.inf, value)
        column = value.argmax(axis=1)
        filled = np.isfinite(value[self.rows, column])
        self._lifted[:, place] = self.logits[self.rows, column] < self._by_score
        if place in self._pin_column:
            number = self._pin_column[place]
            pin = self._pin_allowed[:, number]
            column = np.where(pin, self.n_candidates + number, column)
            filled |= pin
            self._pinned[:, place] = pin
        self._chosen[:, place] = column
        self._filled[:, place] = filled
        self.value[self.rows, column] = -np.inf
        if self._rules.caps:
            fresh = filled & ~self._pinned[:, place]  # pinned items were counted at the start
            codes = self._catalogue.codes[self.items[self.rows, column]] * fresh[:, None]
            np.add.at(self._counts, (self.rows[:, None], codes), 1)
        return column

    def finish(self, inputs: Arrays) -> dict[str, Array]:
        """The contract's outputs; places that stayed empty go to the end."""
        rows = self.rows[:, None]
        order = np.argsort(~self._filled, axis=1, kind="stable")
        filled, chosen = self._filled[rows, order], self._chosen[rows, order]
        known = (inputs["history"] != 0).any(axis=1, keepdims=True)
        reason = np.where(known, Reason.HISTORY, Reason.POPULAR)
        reason = np.where(self._lifted[rows, order], Reason.VARIETY, reason)
        reason = np.where(self._pinned[rows, order], Reason.PINNED, reason)
        status = inputs["lookup_status"] | np.where(filled.all(axis=1, keepdims=True), 0, Status.SHORT_PAGE)
        items = self._catalogue.wire_ids[self.items[rows, chosen]]
        return {
            "item_id": np.where(filled, items, PADDING_ID),
            "score": np.where(filled, self.probability[rows, chosen], 0).astype(np.float32),
            "reason": np.where(filled, reason, Reason.PADDING).astype(np.int32),
            "channel": np.where(
                filled & ~self._pinned[rows, order], self._channels(inputs, chosen), 0
            ).astype(np.int32),
            "because": np.where(filled, self._nearest_of_history(inputs, chosen), PADDING_ID),
            "propensity": np.ones(filled.shape, np.float32),
            "status": status.astype(np.int32),
        }

    def _channels(self, inputs: Arrays, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The kind of channel that found each of the `chosen` columns ``[B, N]``; any kind for pinned ones."""
        found = inputs.get(CANDIDATE_CHANNEL.name)
        if found is None:  # a release with one channel
            return np.full(chosen.shape, FoundBy.TRANSFORMER, np.int32)
        return found[self.rows[:, None], np.minimum(chosen, self.n_candidates - 1)]

    def _nearest_of_history(self, inputs: Arrays, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The item of the history that is most like each of the `chosen` ``[B, N]``: its wire id, or -1."""
        vectors, history = self._catalogue.vectors, inputs["history"]
        alike = vectors[self.items[self.rows[:, None], chosen]] @ vectors[history].transpose(0, 2, 1)
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
