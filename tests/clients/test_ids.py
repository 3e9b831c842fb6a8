"""Wire ids: integers as they are, strings as their 63-bit hash, everything else refused."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonrec_client.contract import MAX_ID
from tritonrec_client.ids import wire_id, wire_ids

integers = st.integers(-1, MAX_ID)
strings = st.text(st.characters(codec="utf-8"), min_size=1)


@given(integers)
def test_an_integer_travels_as_it_is(value: int) -> None:
    assert wire_id(value) == value
    assert type(wire_id(value)) is int


@given(strings)
def test_a_string_becomes_a_hash_that_fits_int64_and_is_never_negative(text: str) -> None:
    assert 0 <= wire_id(text) <= MAX_ID
    assert wire_id(text) == int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def test_the_hash_never_changes_because_stores_and_releases_hold_it() -> None:
    assert wire_id("alice") == 2807279712608087364
    assert wire_id("数") != wire_id("數")


def test_a_string_of_digits_is_not_the_integer() -> None:
    assert wire_id("42") != wire_id(42)


@given(st.lists(st.one_of(integers, strings)))
def test_many_ids_are_translated_as_one_by_one(values: list[int | str]) -> None:
    translated = wire_ids(values)
    assert translated.dtype == np.int64
    assert translated.tolist() == [wire_id(value) for value in values]


@given(st.lists(integers), st.sampled_from([np.int64, np.uint64, object]))
def test_arrays_are_translated_as_lists(values: list[int], dtype: type) -> None:
    if dtype is np.uint64:
        values = [value for value in values if value >= 0]
    assert wire_ids(np.array(values, dtype)).tolist() == values


def test_numpy_scalars_are_integers_and_strings_too() -> None:
    assert wire_id(np.int32(7)) == 7
    assert wire_id(np.str_("alice")) == wire_id("alice")
    assert wire_ids(np.array(["alice", "bob"])).tolist() == [wire_id("alice"), wire_id("bob")]


REFUSED = [True, np.True_, -2, 2**63, 1.0, np.float64(3), None, b"alice", "", "\ud800", [1]]


@pytest.mark.parametrize("value", REFUSED, ids=repr)
def test_anything_else_is_refused_with_the_allowed_range(value: object) -> None:
    with pytest.raises(ValueError, match=r"from -1 to 2\*\*63 - 1, or a string of at least one character"):
        wire_id(value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"from -1 to 2\*\*63 - 1"):
        wire_ids([3, value])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "array",
    [np.array([1, -2]), np.array([2**63], np.uint64), np.array([True]), np.array([0.5])],
    ids=repr,
)
def test_an_array_with_one_bad_id_is_refused(array: npt.NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match=r"from -1 to 2\*\*63 - 1"):
        wire_ids(array)


def test_ids_come_in_one_dimension() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        wire_ids(np.array([[1, 2]]))
