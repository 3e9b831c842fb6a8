from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_backend.features import FeatureEncoder, FeatureError, FeatureField

FIELDS = (
    FeatureField("country", "categorical"),
    FeatureField("age", "numeric", buckets=4),
    FeatureField("tags", "multi"),
    FeatureField("about", "text"),
)

words = st.text("abcd", min_size=1, max_size=2)
raw_rows = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "country": words,
            "age": st.floats(),
            "tags": st.lists(words, max_size=12),
            "about": st.lists(words, max_size=12).map(" ".join),
        },
    ),
    max_size=20,
)


def fit(kind: Any, values: list[Any], **options: Any) -> FeatureEncoder:
    return FeatureEncoder.fit([FeatureField("x", kind, **options)], [{"x": value} for value in values])


def codes(encoder: FeatureEncoder, value: Any) -> list[int]:
    encoded: list[int] = encoder.encode([{"x": value}])[0].tolist()
    return encoded


def test_frequent_categories_come_first_and_ties_are_broken_by_the_value() -> None:
    encoder = fit("categorical", ["b", "c", "a", "c"])
    assert encoder.fields[0].vocabulary == ("c", "a", "b")
    assert [codes(encoder, value) for value in ("c", "a", "b")] == [[1], [2], [3]]


def test_missing_and_unknown_values_get_code_0() -> None:
    encoder = FeatureEncoder.fit(
        FIELDS, [{"country": "de", "age": 30.0, "tags": ["new"], "about": "a b a b"}] * 2
    )
    assert not encoder.encode([{}]).any()
    assert not encoder.encode([dict.fromkeys(["country", "age", "tags", "about"])]).any()
    assert not encoder.encode([{"country": "fr", "tags": ["old"], "about": "z"}]).any()


def test_a_category_rarer_than_min_count_is_unknown() -> None:
    encoder = fit("categorical", ["often", "often", "once"], min_count=2)
    assert codes(encoder, "often") == [1]
    assert codes(encoder, "once") == [0]


def test_numbers_fall_into_buckets_of_about_equal_count() -> None:
    encoder = fit("numeric", [float(number) for number in range(100)], buckets=4)
    encoded = encoder.encode([{"x": float(number)} for number in range(100)])
    assert np.bincount(encoded[:, 0]).tolist() == [0, 25, 25, 25, 25]
    assert codes(encoder, -1e9) == [1]
    assert codes(encoder, 1e9) == [4]


def test_few_distinct_numbers_get_a_code_each_however_rare() -> None:
    encoder = fit("numeric", [0.0] + [1.0] * 99, buckets=4)
    assert [codes(encoder, number) for number in (0.0, 1.0)] == [[1], [2]]


def test_a_number_so_frequent_that_it_fills_buckets_leaves_fewer_of_them() -> None:
    others = [float(number) for number in range(10)]
    smallest = fit("numeric", [-1.0] * 90 + others, buckets=4)
    assert [codes(smallest, number) for number in (-1.0, 0.0, 9.0)] == [[1], [2], [2]]
    largest = fit("numeric", [10.0] * 90 + others, buckets=4)
    assert [codes(largest, number) for number in (0.0, 9.0, 10.0)] == [[1], [1], [2]]


def test_a_constant_number_gets_one_code() -> None:
    encoder = fit("numeric", [7.0] * 5)
    assert encoder.code_count == 2
    assert codes(encoder, 7) == [1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), np.float32("nan")])
def test_a_number_that_is_not_finite_counts_as_missing(value: float) -> None:
    encoder = fit("numeric", [1.0, 2.0, value])
    assert codes(encoder, value) == [0]
    assert encoder == fit("numeric", [1.0, 2.0])


def test_a_numeric_field_without_any_number_has_no_codes() -> None:
    encoder = fit("numeric", [float("nan")])
    assert encoder.code_count == 1
    assert codes(encoder, 3.0) == [0]


def test_multi_values_fill_their_slots_in_order_each_once() -> None:
    encoder = fit("multi", [["a", "b"], ["a", "b", "c"], ["a"]])
    assert encoder.width == 3
    assert codes(encoder, ["c", "unknown", "a", "c"]) == [3, 1, 0]


def test_multi_slots_follow_the_data_but_stop_at_eight() -> None:
    assert fit("multi", [[str(number) for number in range(30)]]).width == 8
    assert fit("multi", [["a", "b"]], slots=5).width == 5
    assert fit("multi", [[]]).width == 1


def test_texts_become_lower_case_words_that_occur_in_two_rows() -> None:
    encoder = fit("text", ["The Night, the RIVER", "river night", "once once"])
    assert encoder.fields[0].vocabulary == ("night", "river")
    assert codes(encoder, "A RIVER at night: river") == [2, 1, 0, 0, 0, 0, 0, 0]


def test_all_fields_share_one_code_space_and_know_their_columns() -> None:
    rows = [{"country": "de", "age": float(age), "tags": ["a", "b"], "about": "x y"} for age in range(8)]
    encoder = FeatureEncoder.fit(FIELDS, rows)
    assert [(field.name, field.start, field.slots) for field in encoder.fields] == [
        ("country", 0, 1),
        ("age", 1, 1),
        ("tags", 2, 2),
        ("about", 4, 8),
    ]
    encoded = encoder.encode(rows)
    assert encoded.shape == (8, 12)
    assert encoded.dtype == np.int32
    per_field = [
        set(encoded[:, field.start : field.start + field.slots].ravel()) - {0} for field in encoder.fields
    ]
    used = [code for found in per_field for code in found]
    assert sorted(used) == list(range(1, encoder.code_count))


def test_a_wider_row_is_padded_and_a_narrower_one_refused_with_both_numbers() -> None:
    field = FeatureField("x", "categorical")
    assert FeatureEncoder.fit([field], [{"x": "a"}], 3).encode([{"x": "a"}]).tolist() == [[1, 0, 0]]
    with pytest.raises(ValueError, match=r"need 8 columns but the width is 5"):
        FeatureEncoder.fit([FeatureField("x", "text")], [], 5)


def test_without_fields_rows_are_all_padding() -> None:
    encoder = FeatureEncoder.fit([], [{}], 2)
    assert encoder.code_count == 1
    assert encoder.encode([{}, {}]).tolist() == [[0, 0], [0, 0]]


def test_no_rows_encode_to_no_rows() -> None:
    assert fit("categorical", ["a"]).encode([]).shape == (0, 1)


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("categorical", 3, "int"),
        ("categorical", ["a"], "list"),
        ("numeric", "3", "str"),
        ("numeric", True, "bool"),
        ("multi", "a", "str"),
        ("multi", ["a", 3], "int"),
        ("text", 2.5, "float"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_by_field_and_type(kind: Any, value: Any, found: str) -> None:
    with pytest.raises(FeatureError, match=rf"'x'.*{found}"):
        fit(kind, [value])
    with pytest.raises(FeatureError, match=rf"'x'.*{found}"):
        fit(kind, []).encode([{"x": value}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "colour"}, "colour"),
        ({"kind": "multi", "slots": 0}, "slots is 0"),
        ({"kind": "numeric", "buckets": 1}, "buckets is 1"),
        ({"kind": "text", "min_count": 0}, "min_count is 0"),
        ({"kind": "categorical", "slots": 2}, "slots is 2"),
    ],
)
def test_a_field_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureField("x", **options)


def test_a_field_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'x' is named twice"):
        FeatureEncoder.fit([FeatureField("x", "text"), FeatureField("x", "multi")], [])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"width": 1, "fields": [{"name": "x"}]}'])
def test_reading_back_something_else_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a feature encoder"):
        FeatureEncoder.from_json(text)


@given(raw_rows)
def test_an_encoder_survives_json(rows: list[dict[str, Any]]) -> None:
    encoder = FeatureEncoder.fit(FIELDS, rows, width=30)
    again = FeatureEncoder.from_json(encoder.to_json())
    assert again == encoder
    assert np.array_equal(again.encode(rows), encoder.encode(rows))


@given(raw_rows, st.randoms())
def test_the_order_of_the_rows_does_not_change_the_encoder(rows: list[dict[str, Any]], random: Any) -> None:
    shuffled = random.sample(rows, len(rows))
    assert FeatureEncoder.fit(FIELDS, shuffled) == FeatureEncoder.fit(FIELDS, rows)


@given(raw_rows, raw_rows)
def test_a_batch_encodes_as_its_rows_one_by_one_and_within_the_table(
    known: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> None:
    encoder = FeatureEncoder.fit(FIELDS, known)
    encoded = encoder.encode(rows)
    assert encoded.shape == (len(rows), encoder.width)
    assert ((encoded >= 0) & (encoded < encoder.code_count)).all()
    for row, one in zip(rows, encoded, strict=True):
        assert np.array_equal(encoder.encode([row])[0], one)
