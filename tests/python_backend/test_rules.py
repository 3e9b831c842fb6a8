from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from python_backend.rules import Cap, InvalidRules, Pinned, Rules, RulesFile, read_rules

GOOD = """
blocked = [17, "sku-4"]

[[pinned]]
item = 50
position = 1

[[caps]]
field = "class"
at_most = 6
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rules.toml"


def replace_file(path: Path, text: str) -> None:
    """As the rules' documentation asks: a finished file is renamed over the old one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def test_a_file_holds_blocked_items_pinned_items_and_caps(path: Path) -> None:
    path.write_text(GOOD, encoding="utf-8")
    assert read_rules(path) == Rules(
        blocked=(17, "sku-4"),
        pinned=(Pinned(item=50, position=1),),
        caps=(Cap(field="class", at_most=6),),
    )


def test_an_empty_file_asks_for_nothing(path: Path) -> None:
    path.write_text("", encoding="utf-8")
    assert read_rules(path) == Rules()


def test_a_number_and_its_text_are_different_ids(path: Path) -> None:
    path.write_text('blocked = [17, "17"]', encoding="utf-8")
    assert read_rules(path).blocked == (17, "17")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blokced = [1]", "blokced: is not a known key; allowed here: blocked, pinned, caps"),
        ("blocked = 17", "blocked: .* found 17"),
        ("blocked = [1, true]", r"blocked\[2\]: found the id True; an id is an integer from -1"),
        ("blocked = [1.5]", r"blocked\[1\]: found the id 1.5"),
        ("blocked = [-5]", r"blocked\[1\]: found the id -5"),
        (f"blocked = [{2**63}]", r"blocked\[1\]: found the id 9223372036854775808"),
        ('blocked = [""]', r"blocked\[1\]: found the id ''; an id is .* at least one character"),
        ("[[pinned]]\nitem = 1", r"pinned\[1\].position: is missing"),
        (
            "[[pinned]]\nitem = 1\nposition = 0",
            r"pinned\[1\].position: .* greater than or equal to 1; found 0",
        ),
        ('[[pinned]]\nitem = 1\nposition = "1"', r"pinned\[1\].position: .* integer; found '1'"),
        (
            "[[pinned]]\nitem = 1\nplace = 1\nposition = 1",
            r"place: is not a known key; allowed here: item, pos",
        ),
        ('[[caps]]\nfield = "a"\nat_most = 0', r"caps\[1\].at_most: .* found 0"),
        ('[[caps]]\nfield = "a"\nat_most = true', r"caps\[1\].at_most: .* found True"),
        ("blocked = [1", "Unclosed array|Invalid value|line 1"),
    ],
)
def test_what_cannot_be_used_is_refused_with_file_key_and_finding(
    path: Path, text: str, message: str
) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRules, match=message) as refused:
        read_rules(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_every_problem_is_told_at_once(path: Path) -> None:
    path.write_text('blocked = [-5]\n[[caps]]\nfield = "a"\nat_most = 0', encoding="utf-8")
    with pytest.raises(InvalidRules, match=r"blocked\[1\].*; caps\[1\].at_most"):
        read_rules(path)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ((1, 3), (2, 3), "pinned: the position 3 occurs twice; allowed is once"),
        ((7, 1), (7, 2), "pinned: the item 7 occurs twice; allowed is once"),
    ],
)
def test_a_place_holds_one_item_and_an_item_stands_at_one_place(
    path: Path, first: tuple[int, int], second: tuple[int, int], message: str
) -> None:
    pins = (f"[[pinned]]\nitem = {item}\nposition = {place}\n" for item, place in (first, second))
    path.write_text("".join(pins), encoding="utf-8")
    with pytest.raises(InvalidRules, match=message):
        read_rules(path)


def test_a_file_that_is_not_there_or_no_text_is_refused(path: Path) -> None:
    with pytest.raises(InvalidRules, match="No such file"):
        RulesFile(path)
    path.write_bytes(b"blocked = ['\xff']")
    with pytest.raises(InvalidRules, match="utf-8"):
        RulesFile(path)


def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    path.write_text(GOOD, encoding="utf-8")
    file = RulesFile(path)
    assert not file.changed()
    assert file.rules == read_rules(path)


def test_a_changed_file_comes_into_force_once(path: Path) -> None:
    path.write_text(GOOD, encoding="utf-8")
    file = RulesFile(path)
    replace_file(path, "blocked = [18]")
    assert [file.changed(), file.changed()] == [True, False]
    assert file.rules == Rules(blocked=(18,))


def test_a_change_that_keeps_size_and_time_is_seen(path: Path) -> None:
    path.write_text("blocked = [18]", encoding="utf-8")
    status = path.stat()
    file = RulesFile(path)
    replace_file(path, "blocked = [19]")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.changed()
    assert file.rules.blocked == (19,)


def test_a_link_that_is_moved_is_a_change(path: Path, tmp_path: Path) -> None:
    """As a mounted ConfigMap does it: the name stays, the folder behind it is exchanged."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "rules.toml").write_text(f"blocked = [{version}]", encoding="utf-8")
    (tmp_path / "data").symlink_to("1")
    path.symlink_to("data/rules.toml")
    file = RulesFile(path)
    (tmp_path / "data.new").symlink_to("2")
    (tmp_path / "data.new").replace(tmp_path / "data")
    assert file.changed()
    assert file.rules.blocked == (2,)


@pytest.mark.parametrize("broken", ["blocked = [", "blocked = [-5]", None])
def test_a_file_that_breaks_later_is_reported_once_and_the_last_good_rules_stay(
    path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    path.write_text(GOOD, encoding="utf-8")
    file = RulesFile(path)
    good = file.rules
    if broken is None:
        path.unlink()
    else:
        replace_file(path, broken)
    with caplog.at_level(logging.ERROR):
        assert [file.changed(), file.changed()] == [False, False]
    assert file.rules is good
    assert len(caplog.records) == 1
    assert f"the last good rules stay in force: {path}: " in caplog.text

    replace_file(path, "blocked = [18]")
    assert file.changed()
    assert file.rules.blocked == (18,)
