"""What a page is made from besides candidates: what a release knows of its items, and an operator's rules."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from tritonrec_client.ids import wire_id

from python_backend.features import FeatureEncoder

if TYPE_CHECKING:
    from python_backend.rules import Rules

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
class AppliedRules:
    """Rules in the indices of a release."""

    blocked: npt.NDArray[np.bool_]  # [I + 1]
    pinned: dict[int, int]  # place from 0 → item
    caps: npt.NDArray[np.int64]  # [caps, 3]: columns of the codes from … to, at most so many

    @cached_property
    def pinned_items(self) -> npt.NDArray[np.int32]:
        """The items that are pinned."""
        return np.array(list(self.pinned.values()), np.int32)

    @cached_property
    def pinned_places(self) -> npt.NDArray[np.int64]:
        """The place of each."""
        return np.array(list(self.pinned), np.int64)

    @classmethod
    def none(cls, catalogue: Catalogue) -> Self:
        """No rules; only padding is never shown."""
        blocked = np.zeros(len(catalogue.wire_ids), dtype=bool)
        blocked[0] = True
        return cls(blocked, {}, np.zeros((0, 3), np.int64))

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
                columns = catalogue.fields[cap.field]
                caps.append((columns.start, columns.stop, cap.at_most))
            else:
                known = ", ".join(sorted(catalogue.fields)) or "none"
                LOGGER.error("rules: caps: field %r is ignored; the release has %s", cap.field, known)
        return cls(blocked, pinned, np.array(caps, np.int64).reshape(-1, 3))
