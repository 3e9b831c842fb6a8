"""What was shown, and what became of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonrec_client.contract import Event

from python_backend.stores import EventLog, UserEvent, open_event_log
from tools.data.impressions import count_shown, impressions

PAGE, OTHER = "0123456789ab", "ba9876543210"
_numbers = itertools.count(1)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with open_event_log(f"lmdb://{tmp_path}/store") as opened:
        yield opened


def event(kind: Event, item: int, at: int, user: int = 1, release: str | None = PAGE) -> UserEvent:
    return UserEvent(user, item, kind, at, next(_numbers).to_bytes(16, "big"), release)


def test_items_are_counted_by_how_often_they_were_shown_and_taken(log: EventLog) -> None:
    log.record(
        [
            event(Event.VIEW, 50, 1),
            event(Event.VIEW, 50, 2),
            event(Event.VIEW, 50, 3, user=2),
            event(Event.CLICK, 50, 4),
            event(Event.VIEW, 70, 4),
            event(Event.PURCHASE, 70, 5),
            event(Event.VIEW, 999, 6),  # is not in the data
        ]
    )
    shown = count_shown(log, np.array([-1, 70, 50, 60]))
    assert shown.viewed.tolist() == [0, 1, 3, 0]
    assert shown.clicked.tolist() == [0, 0, 1, 0]


def test_clicks_on_what_was_not_shown_so_often_came_from_elsewhere(log: EventLog) -> None:
    log.record([event(Event.CLICK, 50, at) for at in range(3)])
    log.record([event(Event.VIEW, 50, 5), event(Event.CLICK, 60, 6, user=2), event(Event.VIEW, 60, 7)])
    shown = count_shown(log, np.array([-1, 50, 60]))
    assert shown.viewed.tolist() == [0, 1, 1]
    assert shown.clicked.tolist() == [0, 1, 0]


def test_an_empty_log_has_shown_nothing(log: EventLog) -> None:
    shown = count_shown(log, np.array([-1, 50]))
    assert shown.viewed.tolist() == shown.clicked.tolist() == [0, 0]
    assert impressions(log, Event.CLICK, 60) == []


def rewarded(log: EventLog, reward: Event = Event.CLICK, window: float = 60) -> list[bool]:
    return [each.rewarded for each in impressions(log, reward, window)]


def test_a_click_rewards_the_newest_view_of_its_item_on_that_page(log: EventLog) -> None:
    log.record([event(Event.VIEW, 50, 1), event(Event.VIEW, 50, 10), event(Event.VIEW, 60, 10)])
    log.record([event(Event.CLICK, 50, 12), event(Event.CLICK, 50, 13)])
    assert rewarded(log) == [False, True, False]


@pytest.mark.parametrize(
    "other",
    [
        event(Event.CLICK, 60, 12),
        event(Event.CLICK, 50, 12, user=2),
        event(Event.CLICK, 50, 12, release=OTHER),
        event(Event.CLICK, 50, 12, release=None),
        event(Event.CLICK, 50, 9),
        event(Event.CLICK, 50, 71),
        event(Event.PURCHASE, 50, 12),
    ],
    ids=["item", "user", "page", "no page", "before", "too late", "kind"],
)
def test_what_is_not_the_view_s_rewards_nothing(log: EventLog, other: UserEvent) -> None:
    log.record([event(Event.VIEW, 50, 10), other])
    assert rewarded(log) == [False]


def test_what_counts_as_success_is_asked_for(log: EventLog) -> None:
    log.record([event(Event.VIEW, 50, 10), event(Event.PURCHASE, 50, 12)])
    assert rewarded(log, Event.PURCHASE) == [True]
    assert rewarded(log, Event.PURCHASE, window=1) == [False]
