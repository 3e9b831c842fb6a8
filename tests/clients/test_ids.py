"""Wire ids: integers as they are, strings as their 63-bit hash, everything else refused."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonrec_client.contract import MAX_ID
from tritonrec_client.ids import (
    PSEUDONYM_KEY_VARIABLE,
    pseudonym,
    pseudonyms,
    read_pseudonym_key,
    wire_id,
    wire_ids,
)

integers = st.integers(-1, MAX_ID)
strings = st.text(st.characters(codec="utf-8"), min_size=1)
keys = st.binary(min_size=16, max_size=64)

KEY = bytes(range(32))


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


@given(st.one_of(st.integers(0, MAX_ID), strings), keys)
def test_a_pseudonym_is_a_keyed_hash_that_fits_int64_and_is_never_negative(
    value: int | str, key: bytes
) -> None:
    named = f"s:{value}" if isinstance(value, str) else f"i:{value}"
    assert (
        pseudonym(value, key) == int.from_bytes(blake2b(named.encode(), digest_size=8, key=key).digest()) >> 1
    )
    assert 0 <= pseudonym(value, key) <= MAX_ID


def test_a_pseudonym_never_changes_because_stores_and_releases_hold_it() -> None:
    assert pseudonym(42, KEY) == 7963365927634185709
    assert pseudonym("alice", KEY) == 8719641573427658111


def test_under_another_key_everybody_is_somebody_else() -> None:
    users = range(1000)
    assert not set(pseudonyms(users, KEY)) & set(pseudonyms(users, KEY[::-1]))
    assert len(set(pseudonyms(users, KEY))) == 1000


def test_an_integer_and_its_digits_have_different_pseudonyms() -> None:
    assert (
        len({pseudonym(42, KEY), pseudonym("42", KEY), pseudonym("i:42", KEY), pseudonym("s:42", KEY)}) == 4
    )


def test_nobody_in_particular_stays_nobody() -> None:
    assert pseudonym(-1, KEY) == -1


@given(st.lists(st.one_of(integers, strings)))
def test_many_pseudonyms_are_those_made_one_by_one(values: list[int | str]) -> None:
    made = pseudonyms(values, KEY)
    assert made.dtype == np.int64
    assert made.tolist() == [pseudonym(value, KEY) for value in values]


def test_pseudonyms_of_arrays_are_those_of_lists() -> None:
    assert pseudonyms(np.array([-1, 5, 2**62]), KEY).tolist() == pseudonyms([-1, 5, 2**62], KEY).tolist()
    assert pseudonyms(np.array(["alice"]), KEY).tolist() == [pseudonym("alice", KEY)]
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        pseudonyms(np.array([[1, 2]]), KEY)


@pytest.mark.parametrize("value", REFUSED, ids=repr)
def test_what_is_no_id_has_no_pseudonym(value: object) -> None:
    with pytest.raises(ValueError, match=r"from -1 to 2\*\*63 - 1, or a string"):
        pseudonym(value, KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (b"", "has 0 bytes; it must have 16 to 64"),
        (bytes(15), "has 15 bytes"),
        (bytes(65), "has 65 bytes"),
        ("0" * 32, "is of type str; it must be bytes"),
        (None, "is of type NoneType"),
    ],
)
def test_a_key_that_is_too_short_or_too_long_is_refused(key: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"the pseudonym key {message}"):
        pseudonym(42, key)
    with pytest.raises(ValueError, match=f"the pseudonym key {message}"):
        pseudonyms([], key)


def test_a_key_is_read_from_a_file_or_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PSEUDONYM_KEY_VARIABLE, raising=False)
    assert read_pseudonym_key() is None
    monkeypatch.setenv(PSEUDONYM_KEY_VARIABLE, KEY.hex())
    assert read_pseudonym_key() == KEY
    (tmp_path / "key").write_text(KEY[::-1].hex().upper() + "\n")
    assert read_pseudonym_key(tmp_path / "key") == KEY[::-1]


@pytest.mark.parametrize("text", ["topsecret" * 4, "5ec4e7", "5ec4e7" * 30], ids=["no hex", "short", "long"])
def test_a_key_that_cannot_be_read_is_refused_without_being_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "key").write_text(text)
    monkeypatch.setenv(PSEUDONYM_KEY_VARIABLE, text)
    for path, source in ((tmp_path / "key", str(tmp_path / "key")), (None, PSEUDONYM_KEY_VARIABLE)):
        with pytest.raises(ValueError, match=f"^{source}: ") as error:
            read_pseudonym_key(path)
        assert text not in str(error.value)
