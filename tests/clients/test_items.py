"""The item table: from wire ids to keys and titles."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonrec_client.items import Item, read_items, write_items

text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("items") / "items.tsv"


@given(st.dictionaries(st.integers(0, 2**63 - 1), st.builds(Item, text, text), max_size=5))
def test_what_is_written_is_read_back(table: Path, items: dict[int, Item]) -> None:
    write_items(table, items)
    assert read_items(table) == items


def test_tabs_and_line_breaks_become_spaces_so_that_a_line_stays_an_item(table: Path) -> None:
    write_items(table, [(3, Item("k\t3", "two\nlines\r\nand a tab\t"))])
    assert read_items(table) == {3: Item("k 3", "two lines and a tab ")}


def test_quotes_are_part_of_a_title(table: Path) -> None:
    table.write_text('item_id\tkey\ttitle\r\n7\tk7\t"Quoted", it says\r\n')
    assert read_items(table) == {7: Item("k7", '"Quoted", it says')}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"items\.tsv:1: found the header \('',\)"),
        ("id\tkey\ttitle\n", r"items\.tsv:1: found the header"),
        ("item_id\tkey\ttitle\n1\ta\tb\n2\tc\n", r"items\.tsv:3: found \['2', 'c'\]"),
        ("item_id\tkey\ttitle\nx\ta\tb\n", r"items\.tsv:2: found \['x', 'a', 'b'\]"),
        (
            "item_id\tkey\ttitle\n1\ta\tb\tc\n",
            r"items\.tsv:2: .*expected an integer item_id, a key and a title",
        ),
    ],
)
def test_what_is_not_an_item_table_is_refused_with_its_line(table: Path, content: str, message: str) -> None:
    table.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_items(table)
