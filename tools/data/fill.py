"""Filling the feature store that serves a release's users."""

from __future__ import annotations

from collections.abc import Callable

from python_backend.stores import open_store
from tools.config.build import BuildConfig
from tools.data.gather import PATIENCE, Gathered, open_log
from tools.data.replay import replay
from tools.data.store import fill_store


def fill(config: BuildConfig, gathered: Gathered, progress: Callable[[int, int], None]) -> None:
    """Write the records of everybody in `gathered` into ``config.store``, then all that was logged again.

    Nothing that was recorded is lost, whether before or while the store is filled. Raises StoreUnavailable.
    """
    with open_log(config) as log, open_store(config.store.url, timeout=PATIENCE) as store:
        fill_store(store, gathered.dataset.interactions, gathered.dataset.user_features, progress)
        replay(log, forgotten=gathered.forgotten)
