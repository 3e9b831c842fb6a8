"""From a data set to the feature store that serves its users."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from python_backend.stores import FeatureStore, StoreUnavailable, UserRecord
from tools.data.interactions import Interactions
from tools.data.table import RawFeatures

BATCH = 5000


def fill_store(
    store: FeatureStore,
    interactions: Interactions,
    features: Sequence[RawFeatures],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a record for every user of `interactions`; records of other users stay.

    `features` are the users' raw features by row. Raises StoreUnavailable.
    """
    for begin in range(0, interactions.n_users, BATCH):
        rows = range(begin, min(begin + BATCH, interactions.n_users))
        records = {}
        for row in rows:
            events = slice(interactions.offsets[row], interactions.offsets[row + 1])
            records[int(interactions.user_ids[row])] = UserRecord(
                interactions.item_ids[interactions.items[events]],
                interactions.timestamps[events],
                features[row],
            )
        store.put_many(records)
        progress(rows.stop, interactions.n_users)


def holds_user(store: FeatureStore, user_id: int) -> bool:
    """Whether `store` has a record of the user with the wire id `user_id`; False where it cannot say."""
    try:
        return isinstance(store.get_many([user_id])[0], UserRecord)
    except StoreUnavailable:
        return False
