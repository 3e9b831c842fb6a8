"""The item table of a release: from wire ids back to the owner's keys and to titles for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

HEADER = ("item_id", "key", "title")


@dataclass(frozen=True, slots=True)
class Item:
    """What people know an item by."""

    key: str
    """The owner's own id, as text."""
    title: str


def read_items(path: str | Path) -> dict[int, Item]:
    """The items in the table at `path`, by wire id.

    The table is UTF-8 text: a header and one line for each item, ``item_id<TAB>key<TAB>title``, without
    quoting. Raises FileNotFoundError, and ValueError naming the line that cannot be read.
    """
    items: dict[int, Item] = {}
    with open(path, encoding="utf-8", newline="\n") as lines:
        header = tuple(lines.readline().rstrip("\r\n").split("\t"))
        if header != HEADER:
            raise ValueError(f"{path}:1: found the header {header}; an item table's is {HEADER}")
        for number, line in enumerate(lines, start=2):
            cells = line.rstrip("\r\n").split("\t")
            try:
                item_id, key, title = cells
                items[int(item_id)] = Item(key, title)
            except ValueError:
                raise ValueError(
                    f"{path}:{number}: found {cells}; expected an integer item_id, a key and a title"
                ) from None
    return items


def write_items(path: str | Path, items: Mapping[int, Item] | Iterable[tuple[int, Item]]) -> None:
    """Write the table that `read_items` reads; tabs and line breaks in keys and titles become spaces."""
    pairs = items.items() if isinstance(items, Mapping) else items
    with open(path, "w", encoding="utf-8", newline="\n") as lines:
        lines.write("\t".join(HEADER) + "\n")
        for item_id, item in pairs:
            lines.write(f"{item_id}\t{_one_line(item.key)}\t{_one_line(item.title)}\n")


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()).replace("\t", " ")
