from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from python_backend.stores.records import (
    CorruptRecord,
    UserRecord,
    cut_record,
    decode,
    decode_or_error,
    encode,
)

events = st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(-(2**63), 2**63 - 1)), max_size=20)
raw_features = st.dictionaries(
    st.text(max_size=5),
    st.text(max_size=5) | st.floats(allow_nan=False) | st.lists(st.text(max_size=3), max_size=3),
    max_size=4,
)


def build(events: list[tuple[int, int]], features: dict[str, Any]) -> UserRecord:
    columns = np.array(events, np.int64).reshape(-1, 2)
    return UserRecord(columns[:, 0].copy(), columns[:, 1].copy(), features)


counts = st.dictionaries(st.sampled_from(["view", "click", "purchase", "skip"]), st.integers(0, 2**40))
records = st.builds(
    lambda record, counters: dataclasses.replace(record, counters=counters),
    st.builds(build, events, raw_features),
    counts,
)
EXAMPLE = build([(5, 100), (7, 200)], {"age": 31.0, "country": "de", "tags": ["a", "b"]})


def frame(content: object) -> bytes:
    """`content` with a header that is right, as another program might write it."""
    payload = content if isinstance(content, bytes) else msgpack.packb(content)
    return struct.pack("<BI", 1, zlib.crc32(payload, 1)) + payload


@given(records)
def test_a_record_survives_its_binary_form(record: UserRecord) -> None:
    assert decode(encode(record)) == record


@given(records, st.data())
def test_any_changed_bytes_are_noticed(record: UserRecord, data: st.DataObject) -> None:
    original = encode(record)
    places = st.integers(0, len(original) - 1)
    damaged = bytearray(original)
    for place, flip in data.draw(
        st.dictionaries(places, st.integers(1, 255), min_size=1, max_size=4)
    ).items():
        damaged[place] ^= flip
    with pytest.raises(CorruptRecord):
        decode(bytes(damaged))


@given(records, st.data())
def test_a_truncated_or_longer_record_is_noticed(record: UserRecord, data: st.DataObject) -> None:
    original = encode(record)
    with pytest.raises(CorruptRecord):
        decode(original[: data.draw(st.integers(0, len(original) - 1))])
    with pytest.raises(CorruptRecord):
        decode(original + data.draw(st.binary(min_size=1, max_size=8)))


@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_a_corrupt_record_and_nothing_else(data: bytes) -> None:
    with pytest.raises(CorruptRecord):
        decode(data)


@given(st.binary(max_size=40))
@example(b"\xc7\x0c\xff" + b"\xff" * 12)  # a msgpack timestamp that no clock shows
@example(b"\x91" * 2000)  # nested deeper than msgpack goes
@example(msgpack.packb({"items": b"", "timestamps": b"", "features": {}, 3: 4}))
def test_arbitrary_content_under_a_right_checksum_is_corrupt_too(payload: bytes) -> None:
    with pytest.raises(CorruptRecord):
        decode(frame(payload))


@pytest.mark.parametrize(
    "change",
    [
        {"items": b"1234567"},
        {"items": bytes(16)},
        {"items": struct.pack("<q", -1)},
        {"items": "text"},
        {"items": None},
        {"timestamps": b""},
        {"timestamps": 12},
        {"features": None},
        {"features": [1]},
        {"features": {"age": None}},
        {"features": {"age": {"nested": 1}}},
        {"features": {"tags": [1]}},
        {"features": {"flag": True}},
    ],
)
def test_content_that_is_no_user_is_corrupt(change: dict[str, Any]) -> None:
    whole = {"items": bytes(8), "timestamps": bytes(8), "features": {"age": 3.0}}
    assert decode(frame(whole)).items.tolist() == [0]
    with pytest.raises(CorruptRecord):
        decode(frame(whole | change))
    for name in change:
        with pytest.raises(CorruptRecord):
            decode(frame({other: value for other, value in whole.items() if other != name}))


def test_a_record_from_before_there_were_counters_has_none_and_keeps_its_bytes() -> None:
    content = {"items": struct.pack("<q", 5), "timestamps": struct.pack("<q", 100), "features": {"age": 3.0}}
    old = decode(frame(content))
    assert old.counters == {}
    assert encode(old) == frame(content)


def test_a_reader_that_knows_no_counters_finds_what_it_knows() -> None:
    counted = dataclasses.replace(EXAMPLE, counters={"click": 2})
    content = msgpack.unpackb(encode(counted)[5:])
    assert content.pop("counters") == {"click": 2}
    assert frame(content) == encode(EXAMPLE)


@pytest.mark.parametrize("counters", [{"click": -1}, {"click": 1.5}, {1: 1}, {"click": None}])
def test_counters_that_cannot_be_are_refused(counters: Any) -> None:
    with pytest.raises(ValueError, match="counter"):
        UserRecord(counters=counters)
    with pytest.raises(CorruptRecord):
        decode(frame({"items": b"", "timestamps": b"", "features": {}, "counters": counters}))


def test_a_record_of_another_version_says_so() -> None:
    with pytest.raises(CorruptRecord, match="version is 2"):
        decode(b"\x02" + encode(EXAMPLE)[1:])


def test_a_store_sees_no_bytes_as_nobody_and_damage_as_a_value() -> None:
    assert decode_or_error(None) is None
    assert decode_or_error(encode(EXAMPLE)) == EXAMPLE
    assert isinstance(decode_or_error(b""), CorruptRecord)


@pytest.mark.parametrize(
    ("items", "timestamps", "features", "message"),
    [
        ([1], [], {}, "1 items but 0 timestamps"),
        ([-1], [0], {}, "-1"),
        ([1], [0], {"flag": None}, "'flag': found NoneType"),
        ([1], [0], {3: "x"}, "name is 3"),
    ],
)
def test_a_record_that_cannot_be_is_refused_before_it_is_written(
    items: list[int], timestamps: list[int], features: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        UserRecord(np.array(items, np.int64), np.array(timestamps, np.int64), features)


def test_arrays_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match="items must be one int64 array"):
        UserRecord(np.zeros(1, np.int32), np.zeros(1, np.int64))


def test_a_number_too_large_for_the_binary_form_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="too large"):
        encode(UserRecord(features={"size": 2**70}))


def test_cutting_keeps_the_newest_events_in_the_order_of_time() -> None:
    items, timestamps = np.array([10, 11, 12, 13]), np.array([300, 100, 300, 200])
    assert cut_record(items, timestamps, {}).items.tolist() == [11, 13, 10, 12]
    assert cut_record(items, timestamps, {}, newest=2).items.tolist() == [10, 12]
    assert cut_record(items, timestamps, {}, newest=0).items.tolist() == []
    assert cut_record(items, timestamps, {}, newest=9).timestamps.tolist() == [100, 200, 300, 300]


def test_cutting_refuses_a_negative_length_and_columns_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="newest is -1"):
        cut_record(np.zeros(1, np.int64), np.zeros(1, np.int64), {}, newest=-1)
    with pytest.raises(ValueError, match="1 items but 2 timestamps"):
        cut_record(np.zeros(1, np.int64), np.zeros(2, np.int64), {})
