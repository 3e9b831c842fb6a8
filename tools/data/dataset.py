"""From the files that a configuration names to checked, compact arrays that models are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tools.config.build import BuildConfig
from tools.data.events import Events, read_events
from tools.data.grouping import group_by_user
from tools.data.ids import Catalogue, IdKind
from tools.data.interactions import Interactions
from tools.data.problems import Collector
from tools.data.table import Progress, RawFeatures, Table, read_table
from tools.data.vectors import Brought, read_vectors


@dataclass(frozen=True)
class Dataset:
    """A build's data.

    Attributes:
        interactions: every user's items in time order.
        item_keys: the items' own ids as text, by item index - 1.
        item_titles: what people call them, by item index - 1; the id where there is no title.
        item_features: their raw features, by item index - 1.
        user_keys: the users' own ids as text, by user row.
        user_features: their raw features, by user row.
        item_id_kind: whether the items' ids are integers, or strings that travel as hashes.
        user_id_kind: the same for users.
        data_range: the first and the last timestamp, unix seconds.
        events_read: rows of the events file.
        events_kept: those that passed the filters on event type and rating; `interactions.n_events` is what
            remains of them where each user meets an item once.
        notes: what is allowed but probably not meant, for people to read.
        item_vectors: what ``[[data.items.vectors]]`` bring, by name, each float32 ``[I + 1, n]`` with rows of
            length 1; a row of zeros is an item without one, and row 0 is padding.
    """

    interactions: Interactions
    item_keys: list[str]
    item_titles: list[str]
    item_features: list[RawFeatures]
    user_keys: list[str]
    user_features: list[RawFeatures]
    item_id_kind: IdKind
    user_id_kind: IdKind
    data_range: tuple[int, int]
    events_read: int
    events_kept: int
    notes: tuple[str, ...]
    item_vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def load_dataset(config: BuildConfig, progress: Progress | None = None) -> Dataset:
    """Read and check everything that ``config.data`` names; nothing is ever written.

    Items are numbered in the item table's order, without one in the order of the events. Items of the table
    without events stay in the catalogue, and so do users of the user table; users of the events without a
    row in the user table have no features. Ties in time are broken at random, the same way for the same
    seed and file.

    Raises DataProblems, which lists everything that is wrong in all files.
    """
    progress = progress or (lambda what, rows: None)
    data, problems = config.data, Collector()
    items_table = read_table(data.items, "items", problems, progress) if data.items else None
    users_table = read_table(data.users, "users", problems, progress) if data.users else None
    events = read_events(data.events, problems, progress)

    items = Catalogue(events.items, items_table.ids if items_table else None, problems, closed=True)
    users = Catalogue(events.users, users_table.ids if users_table else None, problems, closed=False)
    n_items = len((items_table.ids if items_table else events.items).values)
    _check_candidates(config, n_items, problems)
    brought: list[Brought] = []
    if data.items and not problems:  # of ids that are wrong themselves, nothing can be said
        brought = [read_vectors(config, items.keys, problems, progress) for config in data.items.vectors]
    problems.raise_if_any()

    keys: list[str] = items.keys.to_pylist()
    titles = items_table.titles if items_table and items_table.titles else keys
    data_range = (int(events.nanoseconds.min()) // 10**9, int(events.nanoseconds.max()) // 10**9)
    kept = len(events.nanoseconds)
    return Dataset(
        interactions=_interactions(config, events, users, items),
        item_keys=keys,
        item_titles=[title or key for title, key in zip(titles, keys, strict=True)],
        item_features=_features(items_table, len(keys)),
        user_keys=users.keys.to_pylist(),
        user_features=_features(users_table, len(users.keys)),
        item_id_kind=items.kind,
        user_id_kind=users.kind,
        data_range=data_range,
        events_read=events.rows_read,
        events_kept=kept,
        notes=tuple(note for note in (users.note, items.note, *(each.note for each in brought)) if note),
        item_vectors={each.name: each.vectors for each in brought},
    )


def _interactions(config: BuildConfig, events: Events, users: Catalogue, items: Catalogue) -> Interactions:
    offsets, item_indices, seconds = group_by_user(
        users.event_rows[events.users.codes],
        items.event_rows[events.items.codes] + np.int32(1),
        events.nanoseconds,
        n_users=len(users.keys),
        seed=config.seed,
        repeats=config.data.events.repeats,
    )
    padding: NDArray[np.int64] = np.array([-1], dtype=np.int64)
    return Interactions(offsets, item_indices, seconds, users.wire, np.concatenate([padding, items.wire]))


def _features(table: Table | None, length: int) -> list[RawFeatures]:
    """The table's features, and none for those who only occur in the events."""
    features = table.features if table else []
    return [*features, *({} for _ in range(length - len(features)))]


def _check_candidates(config: BuildConfig, n_items: int, problems: Collector) -> None:
    source = config.data.items or config.data.events
    if 0 < n_items < config.contract.candidates:
        problems.add(
            "candidates",
            str(source.path),
            None,
            f"has {n_items:,} items, fewer than the {config.contract.candidates:,} candidates of a request; "
            f"set candidates = {n_items} or less in [contract]",
        )
