from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonrec_client.contract import Event

from python_backend.stores import EventLog, UserEvent, open_event_log
from tools.data.dataset import Dataset
from tools.data.feedback import Feedback, count_fresh, read_feedback, with_feedback, without_forgotten
from tools.data.interactions import Interactions

LEARNED = frozenset({Event.CLICK, Event.PURCHASE})
_numbers = itertools.count(1)


def did(user: int, item: int, at: int, event: Event = Event.CLICK) -> UserEvent:
    return UserEvent(user, item, event, at, next(_numbers).to_bytes(16, "big"))


def data_of(users: dict[int, Sequence[tuple[int, int]]], items: Sequence[int] = (10, 11, 12, 13)) -> Dataset:
    """A data set of users by wire id, each with (item's wire id, second) in order."""
    events = [event for user in users.values() for event in user]
    interactions = Interactions(
        np.concatenate([[0], np.cumsum([len(user) for user in users.values()])]).astype(np.int64),
        np.array([items.index(item) + 1 for item, _ in events], dtype=np.int32),
        np.array([second for _, second in events], dtype=np.int64),
        np.array(list(users), dtype=np.int64),
        np.array([-1, *items], dtype=np.int64),
    )
    names = [str(user) for user in users]
    return Dataset(
        interactions=interactions,
        item_keys=[str(item) for item in items],
        item_titles=[str(item) for item in items],
        item_features=[{} for _ in items],
        user_keys=names,
        user_features=[{"name": name} for name in names],
        item_id_kind="integer",
        user_id_kind="integer",
        data_range=(0, 1000),
        events_read=len(events),
        events_kept=len(events),
        notes=(),
    )


def histories(dataset: Dataset) -> dict[int, list[int]]:
    known = dataset.interactions
    return {int(user): known.item_ids[known.user(row)].tolist() for row, user in enumerate(known.user_ids)}


def feedback_of(
    *events: UserEvent, fresh: int | None = None, forgotten: dict[int, int] | None = None
) -> Feedback:
    """Of events in the order of the log, the last `fresh` (all) of which are fresh."""
    columns = np.array([[e.user_id, e.item_id, e.timestamp] for e in events], dtype=np.int64).reshape(-1, 3).T
    is_fresh = np.arange(len(events)) >= len(events) - (len(events) if fresh is None else fresh)
    return Feedback(*columns, is_fresh, forgotten or {}, "end")


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return open_event_log(f"lmdb://{tmp_path}")


def test_only_the_types_of_event_that_are_learned_from_are_read(log: EventLog) -> None:
    log.record(
        [did(1, 10, 5), did(1, 11, 6, Event.VIEW), did(2, 12, 7, Event.PURCHASE), did(2, 13, 8, Event.SKIP)]
    )

    feedback = read_feedback(log, LEARNED)

    assert feedback.item_ids.tolist() == [10, 12]
    assert feedback.end == log.end()
    assert count_fresh(log, LEARNED, "") == 2


def test_what_was_logged_after_a_position_is_fresh(log: EventLog) -> None:
    log.record([did(1, 10, 5), did(1, 11, 6)])
    position = log.end()
    log.record([did(1, 12, 7)])

    assert read_feedback(log, LEARNED, position).fresh.tolist() == [False, False, True]
    assert count_fresh(log, LEARNED, position) == 1
    assert read_feedback(log, LEARNED, log.end()).fresh.tolist() == [False, False, False]


def test_a_position_stands_even_when_its_event_was_forgotten(log: EventLog) -> None:
    log.record([did(1, 10, 5), did(2, 11, 6)])
    position = log.end()
    log.record([did(3, 12, 7)])
    log.forget([2])

    feedback = read_feedback(log, LEARNED, position)

    assert dict(zip(feedback.user_ids.tolist(), feedback.fresh.tolist(), strict=True)) == {1: False, 3: True}
    assert list(feedback.forgotten) == [2]


def test_logged_events_join_the_history_by_time_and_the_files_order_stays_as_it_is() -> None:
    dataset = data_of({1: [(10, 100), (11, 100), (12, 300)]})

    merged, gained = with_feedback(dataset, feedback_of(did(1, 13, 200)))

    assert histories(merged) == {1: [10, 11, 13, 12]}
    assert gained.tolist() == [1]


def test_a_user_whom_only_the_log_knows_comes_last_and_without_features() -> None:
    merged, gained = with_feedback(data_of({5: [(10, 100)]}), feedback_of(did(2, 11, 50)))

    assert histories(merged) == {5: [10], 2: [11]}
    assert merged.user_features == [{"name": "5"}, {}]
    assert merged.user_keys == ["5", ""]
    assert gained.tolist() == [0, 1]


@pytest.mark.parametrize(("repeats", "expected"), [("last", [11, 10]), ("first", [10, 11])])
def test_an_item_that_is_met_again_is_in_the_history_once(repeats: str, expected: list[int]) -> None:
    dataset = data_of({1: [(10, 100), (11, 200)]})

    merged, gained = with_feedback(dataset, feedback_of(did(1, 10, 300)), repeats)  # type: ignore[arg-type]

    assert histories(merged) == {1: expected}
    assert gained.tolist() == [1 if repeats == "last" else 0]


def test_events_of_items_without_a_row_are_left_out_with_a_note() -> None:
    merged, gained = with_feedback(data_of({1: [(10, 100)]}), feedback_of(did(1, 99, 200), did(1, 98, 300)))

    assert histories(merged) == {1: [10]}
    assert gained.tolist() == [0]
    assert merged.notes == ("2 logged events of 2 items that [data.items] does not have are left out",)


def test_a_log_that_adds_nothing_changes_nothing() -> None:
    dataset = data_of({1: [(10, 100), (11, 100)], 2: []})

    merged, gained = with_feedback(dataset, feedback_of())

    assert histories(merged) == histories(dataset)
    assert merged.data_range == dataset.data_range
    assert gained.tolist() == [0, 0]


def test_who_was_forgotten_is_in_no_part_of_the_data() -> None:
    dataset = data_of({1: [(10, 100)], 2: [(11, 100)], 3: [(12, 100)]})

    left = without_forgotten(dataset, {2: 500})

    assert histories(left) == {1: [10], 3: [12]}
    assert left.user_keys == ["1", "3"]
    assert left.user_features == [{"name": "1"}, {"name": "3"}]


def test_who_comes_back_after_being_forgotten_starts_anew() -> None:
    dataset = data_of({1: [(10, 100), (11, 900)]})

    left = without_forgotten(dataset, {1: 500})

    assert histories(left) == {1: [11]}
    assert left.user_features == [{}]


events = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([10, 11, 12, 13]), st.integers(0, 5)), max_size=20
)


@given(files=events, logged=events)
def test_merging_gives_what_grouping_everything_at_once_would(
    files: list[tuple[int, int, int]], logged: list[tuple[int, int, int]]
) -> None:
    def grouped(rows: list[tuple[int, int, int]]) -> dict[int, list[tuple[int, int]]]:
        users: dict[int, dict[int, int]] = {user: {} for user in sorted({row[0] for row in rows})}
        for user, item, second in sorted(rows, key=lambda row: row[2]):
            users[user].pop(item, None)
            users[user][item] = second
        return {user: list(items.items()) for user, items in users.items()}

    known = grouped(files)
    everything = [(user, item, second) for user, rows in known.items() for item, second in rows] + logged

    merged, gained = with_feedback(data_of(known), feedback_of(*(did(*row) for row in logged)))

    expected = {user: [item for item, _ in rows] for user, rows in grouped(everything).items()}
    assert histories(merged) == expected
    assert gained.sum() <= len(logged)
    assert (gained <= merged.interactions.lengths).all()
