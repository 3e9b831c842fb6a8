from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from happenings import event
from hypothesis import given
from hypothesis import strategies as st
from tritonrec_client.contract import Event

from python_backend.stores import UserEvent
from python_backend.stores.events import EVENT_ID_OFFSET, CorruptEvent, decode_event, encode_event

numbers = st.integers(0, 2**63 - 1)
events = st.builds(
    UserEvent,
    user_id=numbers,
    item_id=numbers,
    event=st.sampled_from(list(Event)),
    timestamp=numbers,
    event_id=st.binary(min_size=16, max_size=16),
    release=st.none() | st.from_regex(r"[0-9a-f]{12}", fullmatch=True),
    propensity=st.none() | st.floats(0, 1, width=32, exclude_min=True),
    place=st.none() | st.integers(0, 2**31 - 1),
)


@given(events)
def test_an_event_survives_its_binary_form(one: UserEvent) -> None:
    data = encode_event(one)
    assert decode_event(data) == one
    assert data[EVENT_ID_OFFSET : EVENT_ID_OFFSET + 16] == one.event_id


def test_an_event_without_a_place_is_written_as_releases_wrote_it_that_knew_of_none() -> None:
    data = bytes.fromhex(f"01{5:016x}{7:016x}02{1700000000:016x}{'ab' * 16}{0x0123456789AB:016x}")
    one = UserEvent(5, 7, Event.CLICK, 1_700_000_000, b"\xab" * 16, "0123456789ab")
    assert (encode_event(one), decode_event(data)) == (data, one)
    placed = replace(one, place=3, propensity=0.25)
    assert encode_event(placed) == b"\x02" + data[1:] + bytes.fromhex("3e80000000000003")


@given(
    st.binary(max_size=60)
    | st.binary(min_size=49, max_size=49).map(lambda rest: b"\x01" + rest)
    | st.binary(min_size=57, max_size=57).map(lambda rest: b"\x02" + rest)
)
def test_arbitrary_bytes_are_a_corrupt_event_or_an_event(data: bytes) -> None:
    try:
        found = decode_event(data)
    except CorruptEvent:
        return
    assert encode_event(found) == data


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user_id", -1),
        ("user_id", 2**63),
        ("item_id", -1),
        ("timestamp", -1),
        ("timestamp", 1.5),
        ("event", 2),
        ("event_id", bytes(15)),
        ("event_id", "0" * 16),
        ("release", "0123"),
        ("propensity", 0.0),
        ("propensity", 1.5),
        ("propensity", float("nan")),
        ("place", -1),
        ("place", 2**31),
    ],
)
def test_what_cannot_have_happened_is_refused_by_name(field: str, value: Any) -> None:
    good = event()
    fields = {name: getattr(good, name) for name in UserEvent.__slots__}
    with pytest.raises(ValueError, match=f"{field} is "):
        UserEvent(**fields | {field: value})
