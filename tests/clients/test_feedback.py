"""Events: what may be told, the tensors that it becomes, and what a call does when a server fails."""

from __future__ import annotations

import time
import uuid
from hashlib import blake2b
from typing import Any

import numpy as np
import pytest
from play import GONE, RECORD_SHAPE, RELEASE, SHAPE, SLOW, Play, acknowledged, answer, shape_of
from tritonrec_client import (
    Acknowledgement,
    DeadlineExceeded,
    Event,
    Feedback,
    InvalidRequest,
    MixedReleases,
    Page,
    Reason,
    Recommendation,
    ServerError,
    Status,
    Timeout,
    Unavailable,
    pseudonym,
    wire_id,
)
from tritonrec_client.contract import (
    FORGET_USER,
    NO_PLACE,
    NO_PROPENSITY,
    NO_RELEASE,
    RECORD_EVENT,
    STAGES,
    Sizes,
    release_to_wire,
)
from tritonrec_client.course import Failure, Infer, ReadShape
from tritonrec_client.feedback import check_event, check_events, check_forgotten, stack_events, views_of

CLICK = Feedback(42, 7, "click")
KEY = bytes(range(32))
PAGE = Page((), Status.OK, {stage.name: RELEASE for stage in STAGES})


def stacked(*events: Feedback) -> dict[str, Any]:
    return stack_events(check_events(events), RECORD_SHAPE)


def test_the_tensors_are_those_of_the_contract() -> None:
    kinds = {"INT64": np.int64, "INT32": np.int32, "FP32": np.float32}
    assert {name: (array.dtype, array.shape) for name, array in stacked(CLICK, CLICK).items()} == {
        tensor.name: (kinds[tensor.dtype], (2, tensor.resolve(Sizes()))) for tensor in RECORD_EVENT.inputs
    }


def test_an_event_is_a_user_an_item_and_what_was_done() -> None:
    tensors = stacked(Feedback("alice", "sku-9", Event.PURCHASE, 1_700_000_000, release=RELEASE))
    assert tensors["user_id"].tolist() == [[wire_id("alice")]]
    assert tensors["item_id"].tolist() == [[wire_id("sku-9")]]
    assert tensors["event"].tolist() == [[Event.PURCHASE.value]]
    assert tensors["timestamp"].tolist() == [[1_700_000_000]]
    assert tensors["page_release"].tolist() == [[release_to_wire(RELEASE)]]


@pytest.mark.parametrize("name", ["click", "CLICK", "Click", Event.CLICK])
def test_an_event_s_name_is_understood_in_any_case(name: Event | str) -> None:
    assert check_event(Feedback(1, 2, name)).event is Event.CLICK


def test_without_a_time_it_happened_now() -> None:
    before = int(time.time())
    assert before <= check_event(CLICK).timestamp <= time.time()
    assert check_event(Feedback(1, 2, "view", timestamp=1_700_000_000.9)).timestamp == 1_700_000_000


def test_the_page_brings_its_release_along() -> None:
    assert check_event(Feedback(1, 2, "click", page=PAGE)).release == release_to_wire(RELEASE)
    assert check_event(Feedback(1, 2, "click", release=RELEASE)).release == release_to_wire(RELEASE)
    assert check_event(CLICK).release == NO_RELEASE


def test_the_page_says_where_its_item_stood_and_how_likely_that_was() -> None:
    places = (
        Recommendation(7, 0.5, Reason.HISTORY),
        Recommendation(9, 0.25, Reason.EXPLORED, propensity=0.125),
    )
    page = Page(places, Status.OK, PAGE.releases)
    found = [check_event(Feedback(1, item, "click", page=page)) for item in (7, 9, 11)]
    assert [(event.place, event.propensity) for event in found] == [
        (0, 1.0),
        (1, 0.125),
        (NO_PLACE, NO_PROPENSITY),
    ]
    assert [check_event(CLICK).place, check_event(CLICK).propensity] == [NO_PLACE, NO_PROPENSITY]


def test_without_the_page_its_place_and_propensity_are_told_by_themselves() -> None:
    tensors = stacked(Feedback(1, 2, "view", release=RELEASE, propensity=0.25, place=9), CLICK)
    assert tensors["place"].tolist() == [[9], [NO_PLACE]]
    assert tensors["propensity"].tolist() == [[0.25], [NO_PROPENSITY]]


def test_a_page_that_was_shown_is_a_view_of_each_of_its_items() -> None:
    places = (
        Recommendation(7, 0.5, Reason.HISTORY),
        Recommendation(9, 0.25, Reason.EXPLORED, propensity=0.125),
    )
    page = Page(places, Status.OK, PAGE.releases)
    events = check_events(views_of(1, page, 1_700_000_000, "page 5"))
    assert [(event.item, event.event, event.place) for event in events] == [
        (7, Event.VIEW, 0),
        (9, Event.VIEW, 1),
    ]
    assert {event.release for event in events} == {release_to_wire(RELEASE)}
    again = check_events(views_of(1, page, 1_700_000_000, "page 5"))
    assert [event.event_id for event in again] == [event.event_id for event in events]
    assert check_events(views_of(1, page))[0].event_id != events[0].event_id
    with pytest.raises(InvalidRequest, match="page_id: found ''"):
        views_of(1, page, page_id="")


def test_a_page_of_mixed_releases_has_none_to_bring() -> None:
    mixed = Page((), Status.OK, {**PAGE.releases, "rank": "ffffffffffff"})
    with pytest.raises(MixedReleases):
        check_event(Feedback(1, 2, "click", page=mixed))


def test_an_event_without_an_id_gets_128_random_bits() -> None:
    ids = {check_event(CLICK).event_id for _ in range(100)}
    assert len(ids) == 100
    assert {len(event_id) for event_id in ids} == {16}


def test_the_same_id_is_the_same_event_in_every_process() -> None:
    number = uuid.UUID("01234567-89ab-cdef-fedc-ba9876543210")
    for given in (number, number.bytes, str(number), str(number).upper()):
        assert check_event(Feedback(1, 2, "click", event_id=given)).event_id == number.bytes
    hashed = blake2b(b"order-1138", digest_size=16).digest()
    assert check_event(Feedback(1, 2, "click", event_id="order-1138")).event_id == hashed


def test_an_id_travels_as_its_big_endian_halves() -> None:
    halves = stacked(Feedback(1, 2, "click", event_id=bytes(7) + b"\1" + b"\xff" * 7 + b"\xfe"))["event_id"]
    assert halves.tolist() == [[1, -2]]


def test_a_pseudonym_travels_in_the_user_s_place_and_items_stay_what_they_are() -> None:
    event = check_event(CLICK, pseudonym_key=KEY)
    assert (event.user, event.item) == (pseudonym(42, KEY), 7)
    assert check_forgotten("alice", KEY) == pseudonym("alice", KEY)


MILLISECONDS = int(time.time() * 1000)
BAD: list[tuple[Feedback, str, str, str]] = [
    (Feedback(-1, 7, "click"), "user", "-1", "an integer from 0"),
    (Feedback(-2, 7, "click"), "user", "-2", "an integer from -1"),
    (Feedback(None, 7, "click"), "user", "None", "an integer from 0"),  # type: ignore[arg-type]
    (Feedback("", 7, "click"), "user", "''", "at least one character"),
    (Feedback(42, -1, "click"), "item", "-1", "an integer from 0"),
    (Feedback(42, 2**63, "click"), "item", str(2**63), "2**63 - 1"),
    (Feedback(42, 7.0, "click"), "item", "7.0", "an integer"),  # type: ignore[arg-type]
    (Feedback(42, 7, "buy"), "event", "'buy'", "view, click, purchase or skip"),
    (Feedback(42, 7, 2), "event", "2", "view, click, purchase or skip"),  # type: ignore[arg-type]
    (Feedback(42, 7, "click", MILLISECONDS), "timestamp", str(MILLISECONDS), "not milliseconds"),
    (Feedback(42, 7, "click", time.time() + 90_000), "timestamp", "", "to a day from now"),
    (Feedback(42, 7, "click", -1), "timestamp", "-1", "from 0"),
    (Feedback(42, 7, "click", float("nan")), "timestamp", "nan", "in seconds"),
    (Feedback(42, 7, "click", True), "timestamp", "True", "in seconds"),
    (Feedback(42, 7, "click", "today"), "timestamp", "'today'", "in seconds"),  # type: ignore[arg-type]
    (Feedback(42, 7, "click", event_id=b"short"), "event_id", "5 bytes", "16 bytes, a uuid.UUID, or"),
    (Feedback(42, 7, "click", event_id=""), "event_id", "''", "at least one character"),
    (Feedback(42, 7, "click", event_id=5), "event_id", "5", "16 bytes"),  # type: ignore[arg-type]
    (Feedback(42, 7, "click", release="latest"), "release", "'latest'", "12 hexadecimal digits"),
    (Feedback(42, 7, "click", release=5), "release", "5", "12 hexadecimal digits"),  # type: ignore[arg-type]
    (Feedback(42, 7, "click", place=-1), "place", "-1", "the first is 0"),
    (Feedback(42, 7, "click", place=1.0), "place", "1.0", "the first is 0"),  # type: ignore[arg-type]
    (Feedback(42, 7, "click", propensity=0), "propensity", "0", "above 0, up to 1"),
    (Feedback(42, 7, "click", propensity=1.5), "propensity", "1.5", "above 0, up to 1"),
    (Feedback(42, 7, "click", propensity=float("nan")), "propensity", "nan", "above 0, up to 1"),
    (Feedback(42, 7, "click", page=RELEASE), "page", f"'{RELEASE}'", "a Page"),  # type: ignore[arg-type]
    (Feedback(42, 7, "click", page=PAGE, release=RELEASE), "page", "a page beside a release", "one of them"),
]


@pytest.mark.parametrize(("event", "field", "found", "allowed"), BAD, ids=lambda value: str(value)[:60])
def test_a_bad_value_is_named_with_what_is_allowed(
    event: Feedback, field: str, found: str, allowed: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_event(event)
    assert error.value.field == field
    assert found in error.value.found
    assert allowed in error.value.allowed


def test_among_many_events_the_bad_one_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"^events\[1\]\.event: found 'buy';"):
        check_events([CLICK, Feedback(1, 2, "buy")])


@pytest.mark.parametrize("user", [-1, None, -7])
def test_nobody_in_particular_cannot_be_forgotten(user: Any) -> None:
    with pytest.raises(InvalidRequest, match="user: found"):
        check_forgotten(user)


def test_recording_asks_the_model_that_writes_after_a_look_at_its_shape() -> None:
    play = Play().know()
    assert play.record([CLICK], RECORD_SHAPE, acknowledged()) == [Acknowledgement.RECORDED]
    assert [(type(step), step.model.name) for step in play.steps] == [  # type: ignore[union-attr]
        (ReadShape, "record_event"),
        (Infer, "record_event"),
    ]
    play.record([CLICK], acknowledged())
    assert play.models == ["record_event"]


def test_many_events_are_one_inference_and_each_has_its_answer() -> None:
    codes = (Acknowledgement.RECORDED, Acknowledgement.KNOWN, Acknowledgement.RECORDED)
    play = Play()
    assert play.record([CLICK] * 3, RECORD_SHAPE, acknowledged(*codes)) == list(codes)
    assert len(play.inferences) == 1


def test_no_events_need_no_server() -> None:
    play = Play()
    assert play.record([]) == []
    assert play.steps == []


def test_all_attempts_of_a_call_bear_the_same_event_id() -> None:
    play = Play("ab", Timeout(total=1.0, attempt=0.4)).know()
    play.record([CLICK], RECORD_SHAPE, (0.4, SLOW), RECORD_SHAPE, GONE, acknowledged(Acknowledgement.KNOWN))
    assert len(play.inferences) == 3
    assert len({step.inputs["event_id"].tobytes() for step in play.inferences}) == 1
    assert len({step.inputs["timestamp"].tobytes() for step in play.inferences}) == 1


def test_two_calls_without_an_id_are_two_events() -> None:
    play = Play()
    play.record([CLICK], RECORD_SHAPE, acknowledged())
    first = play.inferences[0].inputs["event_id"]
    play.record([CLICK], acknowledged())
    assert not np.array_equal(first, play.inferences[0].inputs["event_id"])


def test_no_acknowledgement_is_an_error_and_never_silence() -> None:
    with pytest.raises(Unavailable):
        Play().record([CLICK], RECORD_SHAPE, GONE, GONE, GONE)
    with pytest.raises(DeadlineExceeded):
        Play(timeout=Timeout(0.5)).record([CLICK], RECORD_SHAPE, (0.5, SLOW))
    with pytest.raises(ServerError, match="the answer of 'record_event' lacks acknowledged"):
        Play().record([CLICK], RECORD_SHAPE, answer())


def test_a_server_that_cannot_record_says_so() -> None:
    unknown = Failure("NOT_FOUND", "Request for unknown model: 'record_event' is not found")
    with pytest.raises(ServerError, match="'record_event' is not found"):
        Play().record([CLICK], unknown)


def test_more_events_than_the_server_batches_are_refused_with_its_limit() -> None:
    play = Play()
    with pytest.raises(InvalidRequest, match=r"events: found 3 of them; allowed is 1 to 2 in one call"):
        play.record([CLICK] * 3, shape_of(model=RECORD_EVENT, max_batch=2))
    assert play.asked == ""


@pytest.mark.parametrize("forgotten", [True, False])
def test_forgetting_says_whether_there_was_something_to_forget(forgotten: bool) -> None:
    play = Play()
    outputs: Any = {
        "forgotten": np.array([[int(forgotten)]], np.int32),
        "forget_user_release": np.ones((1, 1)),
    }
    course = play.exchange.forget(check_forgotten(42), None)
    assert play.run(course, shape_of(model=FORGET_USER), GONE, outputs) is forgotten
    assert play.models == ["forget_user"] * 3
    assert play.inferences[-1].inputs["user_id"].tolist() == [[42]]


def test_pages_and_feedback_have_shapes_of_their_own() -> None:
    play = Play()
    play.recommend(SHAPE, answer())
    play.record([CLICK], RECORD_SHAPE, acknowledged())
    play.recommend(answer())
    play.record([CLICK], acknowledged())
    assert play.models == ["record_event"]
