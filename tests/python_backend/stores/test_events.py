from __future__ import annotations

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
)


@given(events)
def test_an_event_survives_its_binary_form(one: UserEvent) -> None:
    data = encode_event(one)
    assert decode_event(data) == one
    assert data[EVENT_ID_OFFSET : EVENT_ID_OFFSET + 16] == one.event_id


@given(st.binary(max_size=60) | st.binary(min_size=49, max_size=49).map(lambda rest: b"\x01" + rest))
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
    ],
)
def test_what_cannot_have_happened_is_refused_by_name(field: str, value: Any) -> None:
    good = event()
    fields = {name: getattr(good, name) for name in UserEvent.__slots__}
    with pytest.raises(ValueError, match=f"{field} is "):
        UserEvent(**fields | {field: value})
