from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonrec_client.contract import (
    NO_PLACE,
    NO_PROPENSITY,
    NO_RELEASE,
    Acknowledgement,
    Event,
    Sizes,
    release_to_wire,
)

from python_backend.batch import BatchAnswerer
from python_backend.pipeline import load_stage
from python_backend.release import Release
from python_backend.stages.base import Array, InvalidRequest, Unavailable
from python_backend.stages.record_event import RecordEvent
from python_backend.stores import EventLog, UserRecord, open_event_log, open_store

RELEASE = Release("0123456789ab", Sizes(), Path())
NOW = 1_800_000_000
PAGE = "fedcba987654"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"lmdb://{tmp_path}/store"


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    with open_event_log(url) as log:
        yield log


@pytest.fixture
def stage(log: EventLog) -> RecordEvent:
    return RecordEvent(log, clock=lambda: NOW)


def request(*rows: dict[str, Any]) -> dict[str, Array]:
    """A request with one row per dictionary, each of which says what differs from a usual click."""
    usual = {
        "user_id": 1,
        "item_id": 10,
        "event": 2,
        "timestamp": NOW,
        "event_id": None,
        "page_release": NO_RELEASE,
        "propensity": NO_PROPENSITY,
        "place": NO_PLACE,
    }
    narrow = {"event": np.int32, "place": np.int32, "propensity": np.float32}
    full = [usual | {"event_id": (0, 100 + place)} | row for place, row in enumerate(rows)]
    return {
        name: np.array([row[name] for row in full], narrow.get(name, np.int64)).reshape(len(full), -1)
        for name in usual
    }


def test_every_event_of_a_batch_is_written_and_acknowledged(stage: RecordEvent, log: EventLog) -> None:
    answer = stage(
        request(
            {"event_id": (1, -2)},
            {"user_id": 2**63 - 1, "event": 1, "page_release": release_to_wire(PAGE)},
            {"event_id": (1, -2), "item_id": 11},
        )
    )
    assert answer["acknowledged"].dtype == np.int32
    assert answer["acknowledged"].tolist() == [
        [Acknowledgement.RECORDED],
        [Acknowledgement.RECORDED],
        [Acknowledgement.KNOWN],
    ]
    first, second = (each for _, each in log.read())
    assert first.event_id == (1).to_bytes(8, "big") + (2**64 - 2).to_bytes(8, "big")
    assert (first.user_id, first.item_id, first.event, first.timestamp) == (1, 10, Event.CLICK, NOW)
    assert (second.user_id, second.event, second.release) == (2**63 - 1, Event.VIEW, PAGE)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("user_id", -1, "an id from 0 to 9223372036854775807"),
        ("item_id", -1, "an id from 0 to 9223372036854775807"),
        ("event", 0, "1 (view), 2 (click), 3 (purchase), 4 (skip)"),
        ("event", 5, "1 (view), 2 (click), 3 (purchase), 4 (skip)"),
        ("timestamp", -1, f"unix seconds from 0 to {NOW + 86400}, a day ahead"),
        ("timestamp", NOW + 86401, f"unix seconds from 0 to {NOW + 86400}, a day ahead"),
        ("page_release", -2, "-1 (none) or a release's name as a number"),
        ("page_release", 16**12, "-1 (none) or a release's name as a number"),
        ("propensity", -0.5, "a number above 0, up to 1; or 0, which is unknown"),
        ("propensity", 1.5, "a number above 0, up to 1; or 0, which is unknown"),
        ("propensity", float("nan"), "a number above 0, up to 1; or 0, which is unknown"),
        ("place", -2, "a place from 0, or -1 (unknown)"),
    ],
)
def test_what_cannot_have_happened_is_refused_by_the_name_of_its_field(
    stage: RecordEvent, log: EventLog, field: str, value: int, allowed: str
) -> None:
    bad, good = BatchAnswerer(stage, RELEASE)([request({}, {field: value}), request({"user_id": 2})])
    assert isinstance(bad, InvalidRequest)
    assert str(bad) == f"{field}: found {value}; allowed is {allowed}"
    assert isinstance(good, dict)
    assert [each.user_id for _, each in log.read()] == [2]


def test_the_ends_of_what_is_allowed_are_allowed(stage: RecordEvent) -> None:
    stage.check(
        request(
            {"user_id": 0, "item_id": 0, "timestamp": 0, "page_release": 0},
            {"timestamp": NOW + 86400, "page_release": 16**12 - 1, "event": 4},
        )
    )


def test_requests_that_travel_together_are_one_write(stage: RecordEvent, log: EventLog) -> None:
    same = request({"event_id": (5, 5)})
    answers = BatchAnswerer(stage, RELEASE)([same, request({}, {}), same])
    assert [answer["acknowledged"][:, 0].tolist() for answer in answers if isinstance(answer, dict)] == [
        [1],
        [1, 1],
        [2],
    ]
    assert len(log.read()) == 3


def test_a_store_that_is_away_refuses_and_acknowledges_nothing() -> None:
    options = {"store_url": "redis://127.0.0.1:1/0", "write_timeout_ms": "100"}
    stage = load_stage("record_event", RELEASE, options)
    (answer,) = BatchAnswerer(stage, RELEASE)([request({"timestamp": int(time.time())})])
    assert isinstance(answer, Unavailable)
    assert "redis://127.0.0.1:1/0" in str(answer)


def test_options_of_the_configuration_reach_the_log(url: str) -> None:
    stage = load_stage("record_event", RELEASE, {"store_url": url, "history_limit": "2"})
    stage(request(*({"item_id": item, "timestamp": item} for item in range(5))))
    with open_store(url) as store:
        (found,) = store.get_many([1])
    assert isinstance(found, UserRecord)
    assert found.items.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store_url": ""}, "option store_url is missing"),
        ({"store_url": "http://here"}, "scheme 'http'"),
        ({"history_limit": "0"}, "option history_limit is '0'; it must be an integer of at least 1"),
        ({"history_limit": "many"}, "option history_limit is 'many'"),
        ({"require_durable": "no"}, "option require_durable is 'no'; it must be true or false"),
        ({"write_timeout_ms": "0"}, "option write_timeout_ms is '0'"),
    ],
)
@pytest.mark.parametrize("name", ["record_event", "forget_user"])
def test_options_that_cannot_be_meant_stop_the_stage_from_loading(
    url: str, name: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_stage(name, RELEASE, {"store_url": url} | options)
