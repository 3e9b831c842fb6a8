"""The first stage: who is asking, and what did they do?

It turns wire ids into this release's item indices, so that no later stage knows any other. A store that
is down, slow or damaged makes a page less personal, never an error: `lookup_status` says what was missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from tritonrec_client.contract import ANONYMOUS, MAX_ID, PADDING_ID, Sizes, Status

from python_backend.features import FeatureEncoder, FeatureError, RawFeatures
from python_backend.history_loop import compile_loop
from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, InvalidRequest, Stage
from python_backend.stages.options import milliseconds
from python_backend.stores import (
    CorruptRecord,
    FeatureStore,
    Found,
    GuardedStore,
    StoreUnavailable,
    UserRecord,
    open_store,
)

STORE_TIMEOUT_MS = 50.0
RETRY_AFTER_MS = 1000.0

_NOBODY = UserRecord()
_ANONYMOUS_USER = np.int32(Status.ANONYMOUS_USER)


class ItemIndex:
    """Wire ids → item indices of one release.

    Attributes:
        wire_ids: int64 ``[I + 1]``, ascending.
        indices: int64 ``[I + 1]``, the item of each.
    """

    def __init__(self, wire_id: npt.NDArray[np.int64]) -> None:
        """`wire_id` is int64 ``[I + 1]`` by item index, -1 at 0. Raises ValueError on anything else."""
        if wire_id.dtype != np.int64 or wire_id.ndim != 1 or len(wire_id) == 0:
            raise ValueError("wire_id must be one int64 array [items + 1]")
        if wire_id[0] != PADDING_ID or (wire_id[1:] < 0).any():
            raise ValueError("wire_id must be -1 at place 0 and at least 0 elsewhere")
        self.indices = np.argsort(wire_id)
        self.wire_ids = wire_id[self.indices]
        if (self.wire_ids[1:] == self.wire_ids[:-1]).any():
            raise ValueError("wire_id holds an id twice")


class FeatureLookup(Stage):
    """Users' features, history and seen items, from the feature store and the running session.

    Takes user_id int64 ``[B, 1]`` and session_items int64 ``[B, S]``. Gives, as int32:

    - user_features ``[B, F]``: the release's feature codes;
    - history ``[B, L]``: the last items, newest last, 0 in front; the session follows what the store
      holds, an item that occurs again stands at its newest place only;
    - seen ``[B, E]``: the same items further back, oldest first, 0 behind;
    - lookup_status ``[B, 1]``: `Status` flags.
    """

    name: ClassVar[str] = "feature_lookup"

    def __init__(self, sizes: Sizes, items: ItemIndex, encoder: FeatureEncoder, store: FeatureStore) -> None:
        if encoder.width != sizes.user_features:
            raise ValueError(
                f"the user features are {encoder.width} wide but the release's user_features is "
                f"{sizes.user_features}"
            )
        self._sizes = sizes
        self._items = items
        self._encoder = encoder
        self._store = store
        self._stack = compile_loop()

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """The stage of `release`, whether or not its store can be reached now.

        Options: ``store_url`` (required), ``store_timeout_ms`` (50), ``retry_after_ms`` (1000: how long a
        store that failed is left alone). Raises ValueError on an option or artifact that cannot be used.
        """
        if not options.get("store_url"):
            raise ValueError("option store_url is missing; for example lmdb:///path/to/store")
        timeout = milliseconds(options, "store_timeout_ms", STORE_TIMEOUT_MS)
        retry_after = milliseconds(options, "retry_after_ms", RETRY_AFTER_MS)
        store = GuardedStore(open_store(options["store_url"], timeout=timeout), retry_after=retry_after)
        with np.load(release.artifacts / "items.npz") as arrays:
            items = ItemIndex(arrays["wire_id"])
        fitted = (release.artifacts / "user_features.json").read_text(encoding="utf-8")
        return cls(release.sizes, items, FeatureEncoder.from_json(fitted), store)

    def check(self, inputs: Arrays) -> None:
        for field, unnamed in (("user_id", "anonymous"), ("session_items", "padding")):
            lowest = inputs[field].min(initial=ANONYMOUS)
            if lowest < ANONYMOUS:
                raise InvalidRequest(field, int(lowest), f"-1 ({unnamed}) or an id from 0 to {MAX_ID}")

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        user_ids = inputs["user_id"][:, 0]
        status = (user_ids == ANONYMOUS) * _ANONYMOUS_USER
        records = self._records(user_ids.tolist(), status)
        features = self._features([record.features for record in records], status)
        history, seen = self._items_of(records, inputs["session_items"], status)
        return {
            "user_features": features,
            "history": history,
            "seen": seen,
            "lookup_status": status[:, np.newaxis],
        }

    def _records(self, user_ids: Sequence[int], status: npt.NDArray[np.int32]) -> list[UserRecord]:
        """Each row's record, an empty one where there is none; the reason goes into `status`."""
        wanted = [user_id for user_id in dict.fromkeys(user_ids) if user_id != ANONYMOUS]
        found: dict[int, Found] = {}
        if wanted:
            try:
                found = dict(zip(wanted, self._store.get_many(wanted), strict=True))
            except StoreUnavailable:
                status[status == Status.OK] |= Status.STORE_UNAVAILABLE
                return [_NOBODY] * len(user_ids)
        records = []
        for row, user_id in enumerate(user_ids):
            record = _NOBODY if user_id == ANONYMOUS else found[user_id]
            if record is None:
                status[row] |= Status.UNKNOWN_USER
                record = _NOBODY
            elif isinstance(record, CorruptRecord):
                status[row] |= Status.CORRUPT_RECORD
                record = _NOBODY
            records.append(record)
        return records

    def _features(self, rows: Sequence[RawFeatures], status: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Codes ``[B, F]``; a row whose features do not fit this release's fields gets zeros and a flag."""
        try:
            return self._encoder.encode(rows)
        except FeatureError:
            codes = np.zeros((len(rows), self._encoder.width), np.int32)
            for row, features in enumerate(rows):
                try:
                    codes[row] = self._encoder.encode([features])[0]
                except FeatureError:
                    status[row] |= Status.CORRUPT_RECORD
            return codes

    def _items_of(
        self, records: Sequence[UserRecord], session: npt.NDArray[np.int64], status: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """History ``[B, L]`` and seen ``[B, E]``; what is to be said of them goes into `status`."""
        lengths = np.array([len(record.items) for record in records], np.int64)
        stored = [record.items for record in records]
        history = np.zeros((len(records), self._sizes.history), np.int32)  # 0 is PADDING_INDEX
        seen = np.zeros((len(records), self._sizes.seen), np.int32)
        self._stack(
            stored[0] if len(stored) == 1 else np.concatenate([_NOBODY.items, *stored]), lengths,
            np.ascontiguousarray(session), self._items.wire_ids, self._items.indices,
            history, seen, status,
        )  # fmt: skip
        return history, seen
