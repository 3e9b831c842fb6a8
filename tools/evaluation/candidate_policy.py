"""What a release that did not serve would have shown where another one drew: its probabilities."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tritonrec_client.contract import PADDING_ID

from python_backend.pipeline import Pipeline
from python_backend.release import Release
from python_backend.stages.rerank import Rerank
from python_backend.stores import FeatureStore, UserEvent, UserRecord, open_store

BATCH = 64
Progress = Callable[[int, int], object]
"""Called with (views done, views in all)."""


def chances_of_views(
    release: Release,
    views: Sequence[UserEvent],
    pages: Sequence[Mapping[int, int]],
    store: FeatureStore,
    *,
    diversity: float,
    progress: Progress = lambda done, total: None,
) -> npt.NDArray[np.float64]:
    """How likely `release` would have shown each view's item at its place to its user then, float64 ``[n]``.

    Every view has a place; of each, `pages` say which item stood at which place of the page. What the
    release would have shown is below the same items, as the propensity that was logged is; where one of
    them is not known, below its own. Its user is who the user's record in `store` describes, without what
    happened in the view's second or later, and without the session that the request may have brought, which
    no log keeps. The stages of the release run in this process. An item that the release does not have, or a
    place beyond its page, has probability 0. Raises StoreUnavailable.
    """
    chances = np.zeros(len(views))
    with tempfile.TemporaryDirectory() as folder:
        url = f"lmdb://{Path(folder).resolve() / 'store'}"
        with open_store(url) as contexts:
            for begin in range(0, len(views), BATCH):
                contexts.put_many(_records(begin, views[begin : begin + BATCH], store))
        pipeline = Pipeline.load(release, {"store_url": url, "store_timeout_ms": "10000"})
        with np.load(release.artifacts / "items.npz") as arrays:
            indices = {item: index for index, item in enumerate(arrays["wire_id"].tolist()) if index}
        groups: dict[tuple[int, bool], list[int]] = {}
        for row, (view, page) in enumerate(zip(views, pages, strict=True)):
            if view.place is not None:
                complete = all(above in page for above in range(view.place))
                groups.setdefault((view.place, complete), []).append(row)
        done = 0
        for (place, complete), rows in sorted(groups.items()):
            for begin in range(0, len(rows), BATCH):
                some = rows[begin : begin + BATCH]
                items = np.array([indices.get(views[row].item_id, 0) for row in some], np.int32)
                above = None
                if complete:
                    above = np.array(
                        [[indices.get(pages[row][each], 0) for each in range(place)] for row in some],
                        np.int32,
                    ).reshape(len(some), place)
                if place < release.sizes.results:
                    found = _chances(pipeline, release, some, place, items, above, diversity)
                    chances[some] = np.where(items > 0, found, 0)
                done += len(some)
                progress(done, len(views))
    return chances


def _records(begin: int, views: Sequence[UserEvent], store: FeatureStore) -> dict[int, UserRecord]:
    """The users of `views` as they were then, by the number of the view."""
    records = {}
    found = store.get_many([view.user_id for view in views])
    for number, (view, record) in enumerate(zip(views, found, strict=True), begin):
        if isinstance(record, UserRecord):
            then = record.timestamps < view.timestamp
            records[number] = UserRecord(record.items[then], record.timestamps[then], record.features)
    return records


def _chances(
    pipeline: Pipeline,
    release: Release,
    rows: Sequence[int],
    place: int,
    items: npt.NDArray[np.int32],
    above: npt.NDArray[np.int32] | None,
    diversity: float,
) -> npt.NDArray[np.float64]:
    tensors = pipeline(
        {
            "user_id": np.array(rows, np.int64)[:, None],
            "session_items": np.full((len(rows), release.sizes.session), PADDING_ID, np.int64),
            "diversity": np.full((len(rows), 1), diversity, np.float32),
        }
    )
    step, rerank = pipeline.steps[-1]
    if not isinstance(rerank, Rerank):
        raise TypeError(f"release {release.name} ends with {step.model}; it must end with rerank")
    return rerank.chances({port.tensor: tensors[port.name] for port in step.inputs}, place, items, above)
