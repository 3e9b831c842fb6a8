"""What a data set is, whichever way its files are written."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from tritonrec_client.ids import wire_id, wire_ids

from tools.data import reader
from tools.data.interactions import Interactions

HEADER = "user,item,timestamp\n"


def assert_equal(left: Interactions, right: Interactions) -> None:
    for field in fields(Interactions):
        np.testing.assert_array_equal(getattr(left, field.name), getattr(right, field.name))


def histories(interactions: Interactions, keys: list[str]) -> list[list[str]]:
    return [[keys[item - 1] for item in interactions.user(row)] for row in range(interactions.n_users)]


def test_histories_are_in_time_order_and_integer_ids_travel_as_they_are(files):
    files.events(HEADER + "7,30,300\n7,10,100\n9,10,50\n7,20,200\n")
    dataset = files.load()
    assert dataset.user_keys == ["7", "9"]
    assert histories(dataset.interactions, dataset.item_keys) == [["10", "20", "30"], ["10"]]
    assert dataset.interactions.timestamps.tolist() == [100, 200, 300, 50]
    assert dataset.interactions.user_ids.tolist() == [7, 9]
    assert dataset.interactions.item_ids.tolist() == [-1, 30, 10, 20]
    assert (dataset.user_id_kind, dataset.item_id_kind) == ("integer", "integer")
    assert dataset.data_range == (50, 300)
    assert dataset.item_titles == dataset.item_keys
    assert dataset.item_features == [{}, {}, {}]


def test_string_ids_travel_as_their_hashes(files):
    files.events(HEADER + "ann,a-1,100\nbob,7,200\n")
    dataset = files.load()
    assert (dataset.user_id_kind, dataset.item_id_kind) == ("string", "string")
    assert dataset.interactions.user_ids.tolist() == [wire_id("ann"), wire_id("bob")]
    assert dataset.interactions.item_ids.tolist() == [-1, wire_id("a-1"), wire_id("7")]


@pytest.mark.parametrize("value", ["007", "+7", "7.0", " 7", "9223372036854775808", "123456789012345678901"])
def test_one_id_that_is_no_canonical_integer_makes_all_of_them_strings(files, value):
    files.events(HEADER + f"1,10,100\n1,{value},200\n")
    dataset = files.load()
    assert (dataset.user_id_kind, dataset.item_id_kind) == ("integer", "string")
    assert dataset.interactions.item_ids[1:].tolist() == wire_ids(["10", value]).tolist()


def test_a_few_strings_among_integer_ids_are_pointed_out(files):
    files.events(HEADER + "".join(f"u{item},{item},100\n" for item in range(1500)) + "u1,none,100\n")
    assert files.load().notes == (
        "events.csv, column 'item': ids are treated as strings, since 1 of 1,501 are no integers, such as "
        "'none'; whoever calls must then send every id as a string",
    )


@pytest.mark.parametrize("value", ["0", "9223372036854775807", "1000000000000000000"])
def test_any_canonical_integer_below_2_to_the_63_is_an_integer_id(files, value):
    files.events(HEADER + f"{value},10,100\n")
    assert files.load().interactions.user_ids.tolist() == [int(value)]


def test_events_and_table_agree_on_the_kind_of_their_ids(files):
    files.events().items("item\n10\n11\nA\n").users("user\n1\n2\nu3\n")
    dataset = files.load()
    assert (dataset.user_id_kind, dataset.item_id_kind) == ("string", "string")
    assert dataset.interactions.item_ids[1] == wire_id("10")
    assert dataset.interactions.user_ids[0] == wire_id("1")


def test_unsigned_and_huge_parquet_ids_mean_what_the_same_text_means(files):
    ids = pa.array([2**64 - 1, 5], pa.uint64())
    pq.write_table(pa.table({"user": ids, "item": ids, "timestamp": [1, 2]}), "events.parquet")
    files.data["events"]["path"] = "events.parquet"
    dataset = files.load()
    assert dataset.user_id_kind == "string"
    assert dataset.interactions.user_ids.tolist() == wire_ids([str(2**64 - 1), "5"]).tolist()


def test_items_of_the_table_come_in_its_order_and_stay_without_events(files):
    files.events().items(
        "item,name,tags\n12,Cold,\n11,,x|y| |z\n10,Warm,x\n",
        title="name",
        features=[{"column": "tags", "kind": "multi"}],
    )
    dataset = files.load()
    assert dataset.item_keys == ["12", "11", "10"]
    assert dataset.item_titles == ["Cold", "11", "Warm"]
    assert dataset.item_features == [{}, {"tags": ["x", "y", "z"]}, {"tags": ["x"]}]
    assert dataset.interactions.n_items == 3
    assert dataset.interactions.popularity().tolist() == [0, 0, 1, 2]


def test_users_of_the_table_come_first_and_stay_without_events(files):
    files.events().users("user\n5\n2\n")
    dataset = files.load()
    assert dataset.user_keys == ["5", "2", "1"]
    assert dataset.interactions.lengths.tolist() == [0, 1, 2]


def test_a_feature_of_each_kind_is_read_and_what_is_missing_is_no_key(files):
    files.events().items(
        "item,kind:token,price,words,tags\n10, film ,9.5, A  title ,a;b\n11,?,n/a,,\n",
        features=[
            {"column": "kind:token", "kind": "categorical", "missing": ["?"]},
            {"column": "price", "kind": "numeric", "missing": ["n/a"]},
            {"column": "words", "kind": "text"},
            {"column": "tags", "kind": "multi", "separator": ";", "name": "labels"},
        ],
    )
    assert files.load().item_features == [
        {"kind": "film", "price": 9.5, "words": "A  title", "labels": ["a", "b"]},
        {},
    ]


def test_parquet_features_are_taken_as_they_are(files):
    table = pa.table(
        {
            "item": [10, 11],
            "kind": pa.array(["film", None]).dictionary_encode(),
            "price": pa.array([1, None], pa.int16()),
            "year": [1999, 2001],
            "tags": [["a|b", "c"], None],
        }
    )
    pq.write_table(table, "items.parquet")
    files.events()
    kinds = {"kind": "categorical", "price": "numeric", "year": "categorical", "tags": "multi"}
    features = [{"column": column, "kind": kind} for column, kind in kinds.items()]
    files.data["items"] = {"path": "items.parquet", "id": "item", "features": features}
    assert files.load().item_features == [
        {"kind": "film", "price": 1.0, "year": "1999", "tags": ["a|b", "c"]},
        {"year": "2001"},
    ]


@pytest.mark.parametrize("string_ids", [False, True])
def test_csv_tsv_and_parquet_give_equal_interactions(files, monkeypatch, string_ids):
    monkeypatch.setattr(reader, "BLOCK_BYTES", 2048)
    monkeypatch.setattr(reader, "BATCH_ROWS", 77)
    rng = np.random.default_rng(0)
    prefix = "id-" if string_ids else ""
    user = [f"{prefix}{value}" for value in rng.integers(0, 40, 1000)]
    item = [f"{prefix}{value}" for value in rng.integers(0, 90, 1000)]
    time = rng.integers(0, 200, 1000)
    table = pa.table({"user": user, "item": item, "timestamp": time})
    pa_csv.write_csv(table, "events.csv")
    Path("events.tsv").write_text(
        "\n".join(
            "\t".join(map(str, row))
            for row in [("user", "item", "timestamp"), *zip(user, item, time, strict=True)]
        )
    )
    pq.write_table(table, "strings.parquet")
    if not string_ids:
        table = table.set_column(0, "user", table["user"].cast(pa.int64()))
        table = table.set_column(1, "item", table["item"].cast(pa.float64()))
    table = table.set_column(2, "timestamp", table["timestamp"].cast(pa.timestamp("s", "UTC")))
    pq.write_table(table, "typed.parquet", row_group_size=300)
    loaded = []
    for path in ("events.csv", "events.tsv", "strings.parquet", "typed.parquet"):
        files.data["events"]["path"] = path
        loaded.append(files.load().interactions)
    assert loaded[0].n_users == 40
    for other in loaded[1:]:
        assert_equal(loaded[0], other)


def test_only_mapped_columns_are_read(files):
    files.events(b"user,note,item,timestamp\n1,\xff\xfe,10,100\n")
    assert files.load().item_keys == ["10"]


def test_a_byte_order_mark_windows_line_ends_and_gzip_are_fine(files):
    import gzip

    content = b"\xef\xbb\xbf" + HEADER.replace("\n", "\r\n").encode() + b"1,10,100\r\n"
    files.events(content)
    assert files.load().item_keys == ["10"]
    Path("events.csv.gz").write_bytes(gzip.compress(content))
    files.data["events"]["path"] = "events.csv.gz"
    assert files.load().item_keys == ["10"]


def test_a_quote_in_a_tab_separated_title_is_a_quote(files):
    files.events()
    Path("items.tsv").write_text('item\tname\n10\t"Unclosed\n11\tx "y" z\n')
    files.data["items"] = {"path": "items.tsv", "id": "item", "title": "name"}
    assert files.load().item_titles == ['"Unclosed', 'x "y" z']


def test_only_the_kept_types_of_event_and_high_enough_ratings_count(files):
    files.events(
        "user,item,timestamp,type,stars\n"
        "1,10,1,view,5\n1,11,2,buy,3.9\n1,12,3,buy,4\n1,13,4,click,\n1,14,5,click,4.5\n1,15,6,,5\n",
        event="type",
        keep=["buy", "click"],
        rating="stars",
        min_rating=4,
    )
    dataset = files.load()
    assert dataset.item_keys == ["12", "14"]
    assert (dataset.events_read, dataset.events_kept) == (6, 2)


@pytest.mark.parametrize(
    ("repeats", "history"), [("last", ["11", "12", "10"]), ("first", ["10", "11", "12"])]
)
def test_an_item_is_in_a_history_once(files, repeats, history):
    files.events(HEADER + "1,10,1\n1,11,2\n1,10,3\n1,12,3\n1,10,4\n2,10,9\n", repeats=repeats)
    dataset = files.load()
    assert histories(dataset.interactions, dataset.item_keys) == [history, ["10"]]
    assert (dataset.events_kept, dataset.interactions.n_events) == (6, 4)


def test_ties_in_time_are_broken_at_random_the_same_way_for_the_same_seed(files):
    files.events(HEADER + "".join(f"{user},{item},{item // 20}\n" for user in range(3) for item in range(60)))
    first, again, other = (files.load(seed=seed).interactions for seed in (1, 1, 2))
    assert_equal(first, again)
    assert first.items.tolist() != other.items.tolist()
    np.testing.assert_array_equal(first.timestamps, other.timestamps)
    for row in range(3):
        for tie in range(3):
            items = [run.user(row)[20 * tie : 20 * (tie + 1)] for run in (first, other)]
            assert sorted(items[0]) == sorted(items[1])
            assert list(items[0]) != sorted(items[0])
    assert first.user(0).tolist() != first.user(1).tolist()


@pytest.mark.parametrize(
    ("unit", "early", "late"),
    [
        ("s", "1700000000.25", "1700000000.5"),
        ("ms", "1700000000250", "1700000000500"),
        ("us", "1700000000000001", "1700000000000002"),
        ("ns", "1700000000000000001", "1700000000000000002"),
        ("iso8601", "2023-11-14T22:13:20.25Z", "2023-11-15T00:13:20.5+02:00"),
        ("iso8601", "2023-11-14 22:13:20", "2023-11-14T22:13:20.000000001"),
    ],
)
def test_times_are_ordered_to_the_nanosecond_and_kept_as_seconds(files, unit, early, late):
    rows = "".join(f"1,{item},{late}\n1,{item + 50},{early}\n" for item in range(10, 20))
    files.events(HEADER + rows, timestamp_unit=unit)
    dataset = files.load()
    history = [int(key) for key in histories(dataset.interactions, dataset.item_keys)[0]]
    assert min(history[:10]) >= 60
    assert max(history[10:]) < 60
    assert set(dataset.interactions.timestamps.tolist()) == {1_700_000_000}


def test_parquet_times_need_no_unit(files):
    when = datetime(2024, 5, 17, tzinfo=UTC)
    for column in (pa.array([when], pa.timestamp("us", "Europe/Berlin")), pa.array([when.date()])):
        pq.write_table(pa.table({"user": [1], "item": [10], "timestamp": column}), "events.parquet")
        files.data["events"].update(path="events.parquet", timestamp_unit="ms")
        assert files.load().data_range == (int(when.timestamp()),) * 2


def test_progress_is_told(files):
    from tools.data.dataset import load_dataset

    files.events().items("item\n10\n11\n")
    told: list[tuple[str, int]] = []
    load_dataset(files.config(), lambda what, rows: told.append((what, rows)))
    assert told == [("items", 2), ("events", 3)]
