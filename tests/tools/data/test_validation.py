"""Everything that can be wrong with data is named by file, column, row and line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tritonrec_client import ids as client_ids

from tools.data import reader
from tools.data.problems import LISTED, DataProblems

HEADER = "user,item,timestamp\n"
GENRES = [{"column": "genre", "kind": "multi"}]
AGE = [{"column": "age", "kind": "numeric"}]


def test_a_missing_file_is_named(files):
    assert str(files.problem()) == "events.csv: there is no such file"


def test_a_folder_is_no_file(files):
    Path("events.csv").mkdir()
    assert files.problem().message == "is not a file"


def test_every_missing_file_is_named_at_once(files):
    files.data["items"] = {"path": "items.csv", "id": "item"}
    assert [problem.file for problem in files.problems()] == ["items.csv", "events.csv"]


def test_a_missing_column_is_named_with_a_close_one_and_all_that_exist(files, where):
    files.events("user,item_id,timestamp\n1,2,3\n")
    problem = files.problem()
    assert where(problem) == ("events.csv", "item", None, None)
    assert problem.message == (
        "there is no such column; did you mean 'item_id'? the file has 'user', 'item_id', 'timestamp'"
    )


def test_every_missing_column_is_named(files):
    files.events("a,b\n1,2\n")
    assert [problem.column for problem in files.problems()] == ["user", "item", "timestamp"]


def test_a_missing_column_of_a_parquet_file_is_named(files, where):
    pq.write_table(pa.table({"user": [1], "item": [2], "time": [3]}), "events.parquet")
    files.data["events"]["path"] = "events.parquet"
    assert where(files.problem()) == ("events.parquet", "timestamp", None, None)


def test_a_column_that_the_header_names_twice_is_refused(files):
    files.events("user,item,item,timestamp\n1,2,2,3\n")
    problem = files.problem()
    assert (problem.column, problem.message) == ("item", "the header names it 2 times")


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty: it has not even a header"), (HEADER, "is empty: it has a header but no rows")],
)
def test_an_empty_file_is_named(files, content, message):
    files.events(content)
    assert str(files.problem()) == f"events.csv: {message}"


def test_an_empty_parquet_file_is_named(files):
    empty = pa.array([], pa.int64())
    pq.write_table(pa.table({"user": empty, "item": empty, "timestamp": empty}), "events.parquet")
    files.data["events"]["path"] = "events.parquet"
    assert files.problem().message == "is empty: it has a header but no rows"


def test_a_file_that_is_no_parquet_is_named(files):
    files.data["events"]["path"] = "events.parquet"
    files.events(HEADER)
    assert files.problem().message.startswith("cannot be read as parquet: ")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("soon", "'soon' is not a number (the unit is \"s\")"),
        (
            "2024-05-17",
            "'2024-05-17' is not a number (the unit is \"s\"); "
            'for written dates set timestamp_unit = "iso8601"',
        ),
        ("", "is empty; every event needs a timestamp"),
        ("nan", "'nan' is not a number (the unit is \"s\")"),
        ("-5", "found -5; a timestamp must lie within the years 1970 to 2199"),
        (
            "881250949000",
            'found 881250949000, which lies beyond the year 2199 in the unit "s"; '
            'with timestamp_unit = "ms" it would be in 1997',
        ),
    ],
)
def test_a_bad_timestamp_is_named_by_row_and_line(files, where, value, message):
    files.events(HEADER + f"1,10,100\n1,11,200\n2,10,{value}\n2,11,300\n")
    problem = files.problem()
    assert where(problem) == ("events.csv", "timestamp", 3, 4)
    assert problem.message == message


@pytest.mark.parametrize("value", ["yesterday", "2024-13-01", "2023-02-30T00:00:00Z", ""])
def test_a_date_that_does_not_exist_is_named(files, where, value):
    files.events(HEADER + f"1,10,2024-01-01\n1,11,{value}\n", timestamp_unit="iso8601")
    assert where(files.problem()) == ("events.csv", "timestamp", 2, 3)


def test_seconds_that_are_read_as_milliseconds_are_noticed(files):
    files.events(HEADER + "1,10,881250949\n", timestamp_unit="ms")
    assert files.problem().message == (
        'all timestamps lie in the year 1970 in the unit "ms"; timestamp_unit is probably another'
    )


def test_a_parquet_column_that_is_no_time_is_refused_once(files, where):
    pq.write_table(pa.table({"user": [1, 2], "item": [1, 2], "timestamp": [True, False]}), "events.parquet")
    files.data["events"]["path"] = "events.parquet"
    problem = files.problem()
    assert where(problem) == ("events.parquet", "timestamp", None, None)
    assert problem.message == "holds bool; a timestamp is a number, a text or a Parquet timestamp or date"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is empty; every row needs an id"),
        ("nan", "is nan, which is no id"),
        ("NaN", "is NaN, which is no id"),
        ("-7", "the id -7 is negative; ids start at 0"),
    ],
)
@pytest.mark.parametrize("column", ["user", "item"])
def test_a_bad_id_is_named_by_row_and_line(files, where, column, value, message):
    row = {"user": "1", "item": "10", column: value}
    files.events(HEADER + f"1,10,100\n{row['user']},{row['item']},200\n")
    problem = files.problem()
    assert where(problem) == ("events.csv", column, 2, 3)
    assert problem.message == message


def test_a_minus_sign_is_no_problem_in_a_string_id(files):
    files.events(HEADER + "1,-7,100\n1,seven,200\n")
    assert files.load().item_keys == ["-7", "seven"]


def test_a_missing_id_of_a_parquet_file_is_named_by_row_without_a_line(files, where):
    table = pa.table({"user": [1, None, 2], "item": [1.0, 2.0, float("nan")], "timestamp": [1, 2, 3]})
    pq.write_table(table, "events.parquet")
    files.data["events"]["path"] = "events.parquet"
    user, item = files.problems()
    assert where(user) == ("events.parquet", "user", 2, None)
    assert where(item) == ("events.parquet", "item", 3, None)
    assert (user.message, item.message) == ("is empty; every row needs an id", "is nan, which is no id")


def test_an_id_with_a_fraction_is_named(files, where):
    pq.write_table(pa.table({"user": [1, 2], "item": [1.0, 2.5], "timestamp": [1, 2]}), "events.parquet")
    files.data["events"]["path"] = "events.parquet"
    problem = files.problem()
    assert where(problem) == ("events.parquet", "item", 2, None)
    assert problem.message == "is 2.5; ids are integers or text"


def test_ids_of_another_type_are_refused_once(files, where):
    times = pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 2)
    pq.write_table(pa.table({"user": times, "item": [1, 2], "timestamp": [1, 2]}), "events.parquet")
    files.data["events"]["path"] = "events.parquet"
    problem = files.problem()
    assert where(problem) == ("events.parquet", "user", None, None)
    assert problem.message == "holds timestamp[us, tz=UTC]; ids are integers or text"


def test_an_id_that_a_table_has_twice_is_named_with_its_first_row(files, where):
    files.events().items("item\n10\n11\n12\n10\n").users("user\n2\n2\n1\n")
    item, user = files.problems()
    assert where(item) == ("items.csv", "item", 4, 5)
    assert item.message == "the id '10' was already in row 1; every id may have one row"
    assert where(user) == ("users.csv", "user", 2, 3)


def test_an_item_of_the_events_that_the_item_table_does_not_have_is_named(files, where):
    files.events().items("item\n10\n")
    problem = files.problem()
    assert where(problem) == ("events.csv", "item", 2, 3)
    assert problem.message == "the item '11' is not in column 'item' of items.csv"


def test_a_user_without_a_row_in_the_user_table_is_no_problem(files):
    files.events().users("user,age\n2,50\n", features=AGE)
    dataset = files.load()
    assert dataset.user_keys == ["2", "1"]
    assert dataset.user_features == [{"age": 50.0}, {}]


@pytest.mark.parametrize("value", ["old", "nan", "inf", "-inf"])
def test_a_number_that_is_none_is_named(files, where, value):
    files.events().users(f"user,age\n1,30\n2,{value}\n", features=AGE)
    problem = files.problem()
    assert where(problem) == ("users.csv", "age", 2, 3)
    assert problem.message == (
        f"'{value}' is not a finite number; leave it empty where there is none, "
        "or list it under `missing` of this feature"
    )


def test_a_rating_that_is_no_number_is_named(files, where):
    files.events(
        "user,item,timestamp,stars\n1,10,100,5\n1,11,200,nan\n2,10,300,\n", rating="stars", min_rating=3
    )
    assert where(files.problem()) == ("events.csv", "stars", 2, 3)


@pytest.mark.parametrize("row", ["1,11", "1,11,200,5"])
def test_a_row_with_too_few_or_too_many_values_is_named(files, where, row):
    files.events(HEADER + f"1,10,100\n{row}\n2,10,300\n")
    problem = files.problem()
    assert where(problem) == ("events.csv", None, 2, 3)
    count = row.count(",") + 1
    assert problem.message == f"has {count} values where the header has 3: {row!r}"


def test_rows_after_a_ragged_one_keep_their_numbers(files):
    files.events(HEADER + "1,10,100\n1,11\n2,,300\n2\n2,10,soon\n")
    assert [(problem.column, problem.row, problem.line) for problem in files.problems()] == [
        (None, 2, 3),
        (None, 4, 5),
        ("item", 3, 4),
        ("timestamp", 5, 6),
    ]


def test_blank_lines_are_no_rows_but_count_as_lines(files, where):
    files.events(HEADER + "1,10,100\n\n\n1,11,soon\n\n")
    assert where(files.problem()) == ("events.csv", "timestamp", 2, 5)


def test_a_quoted_line_break_counts_as_a_line(files, where):
    files.events().items('item,title\n10,"two\nlines"\n10,again\n11,x\n', title="title")
    assert where(files.problem()) == ("items.csv", "item", 2, 4)


def test_a_quote_that_is_never_closed_is_explained(files, monkeypatch):
    monkeypatch.setattr(reader, "BLOCK_BYTES", 1 << 10)
    files.events(HEADER + '1,"10,100\n' + "1,11,200\n" * 1000)
    assert 'is a quote (") opened and never closed?' in files.problem().message


@pytest.mark.parametrize("column", ["user", "item", "timestamp"])
def test_bytes_that_are_not_utf8_are_named(files, where, column):
    row = {"user": b"1", "item": b"11", "timestamp": b"200", column: b"M\xfcnchen"}
    files.events(HEADER.encode() + b"1,10,100\n" + b",".join(row.values()) + b"\n")
    problem = files.problem()
    assert where(problem) == ("events.csv", column, 2, 3)


def test_a_feature_that_is_not_utf8_is_named(files, where):
    files.events().items(b"item,genre\n10,a\n11,M\xfcsli\n", features=GENRES)
    problem = files.problem()
    assert where(problem) == ("items.csv", "genre", 2, 3)
    assert problem.message == "is not UTF-8; save the file as UTF-8"


def test_a_header_that_is_not_utf8_is_named(files):
    files.events(b"user,item,timestamp,gr\xfc\xdf\n1,2,3,4\n")
    assert files.problem().message == "the header is not UTF-8; save the file as UTF-8"


def test_fewer_items_than_candidates_are_refused_with_both_numbers(files):
    files.events()
    problem = files.problem(candidates=500)
    assert str(problem) == (
        "events.csv: has 2 items, fewer than the 500 candidates of a request; "
        "set candidates = 2 or less in [contract]"
    )


def test_items_are_counted_in_the_item_table_even_where_it_misses_some(files):
    files.events().items("item\n10\n")
    assert "has 1 items, fewer than the 2 candidates" in files.problems(candidates=2)[0].message


def test_a_rating_of_a_type_that_is_no_number_is_refused(files):
    table = pa.table({"user": [1], "item": [10], "timestamp": [1], "stars": [[5]]})
    pq.write_table(table, "events.parquet")
    files.data["events"].update(path="events.parquet", rating="stars", min_rating=3)
    assert files.problems()[-1].message == "holds list<element: int64>; it must be text or a number"


def test_filters_that_leave_nothing_are_refused(files):
    files.events("user,item,timestamp,type\n1,10,100,view\n1,11,200,cart\n", event="type", keep=["buy"])
    assert files.problem().message == "no event passes keep = ['buy'] (column 'type' has 'cart', 'view')"


def test_rows_that_a_filter_leaves_out_may_be_wrong_and_the_others_keep_their_numbers(files, where):
    files.events(
        "user,item,timestamp,type\n1,,100,search\n1,11,200,buy\n2,,300,buy\n,,,search\n2,11,soon,buy\n",
        event="type",
        keep=["buy"],
    )
    assert [where(problem) for problem in files.problems()] == [
        ("events.csv", "item", 3, 4),
        ("events.csv", "timestamp", 5, 6),
    ]


def test_two_string_ids_with_the_same_hash_are_refused(files, monkeypatch):
    monkeypatch.setattr(client_ids, "_hash", lambda text: len(text))
    files.events(HEADER + "1,aa,100\n1,bb,200\n1,c,300\n")
    problem = files.problem()
    assert str(problem) == (
        "events.csv, column 'item': the ids 'aa' and 'bb' have the same hash; rename one of them"
    )


def test_problems_of_all_files_come_together_in_one_readable_message(files):
    files.events(HEADER + "1,10,soon\n-3,99,100\n").items("item\n10\n10\n").users("user,years\n1,2\n")
    files.data["users"]["features"] = AGE
    with pytest.raises(DataProblems) as caught:
        files.load()
    assert (
        str(caught.value)
        == """\
The data has 5 problems; nothing was written.

items.csv
  column 'item'
    row 2 (line 3): the id '10' was already in row 1; every id may have one row

users.csv
  column 'age'
    there is no such column; the file has 'user', 'years'

events.csv
  column 'user'
    row 2 (line 3): the id -3 is negative; ids start at 0
  column 'item'
    row 2 (line 3): the item '99' is not in column 'item' of items.csv
  column 'timestamp'
    row 1 (line 2): 'soon' is not a number (the unit is "s")"""
    )


def test_many_problems_of_a_kind_are_counted_not_listed(files):
    files.events(HEADER + "1,10,soon\n" * 332 + "1,,200\n")
    problems = files.problems()
    soon = [problem for problem in problems if problem.column == "timestamp"]
    assert [problem.row for problem in soon] == list(range(1, LISTED + 1))
    assert (soon[-1].more, sum(problem.more for problem in problems)) == (312, 312)
    with pytest.raises(DataProblems, match=r"^The data has 333 problems[\s\S]* … and 312 more$"):
        files.load()


def test_rows_are_numbered_through_all_batches(files, where, monkeypatch):
    monkeypatch.setattr(reader, "BLOCK_BYTES", 64)
    files.events(HEADER + "1,10,100\n" * 50 + "1,11\n" + "1,10,100\n" * 50 + "1,11,soon\n1,,100\n")
    assert [where(problem)[2:] for problem in files.problems()] == [(51, 52), (103, 104), (102, 103)]


def test_nothing_is_written(files):
    files.events(HEADER + "1,10,soon\n")
    files.problem()
    assert [path.name for path in Path().iterdir()] == ["events.csv"]
