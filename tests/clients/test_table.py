"""Pages for people and for programs."""

from __future__ import annotations

import json

import pytest
from tritonrec_client import Item, Page, Reason, Recommendation, Status, format_page
from tritonrec_client.contract import STAGES
from tritonrec_client.table import (
    STATUS_WORDS,
    describe_status,
    page_to_json,
)

RELEASES = {stage.name: "00ab12cd34ef" for stage in STAGES}
PAGE = Page(
    (
        Recommendation(50, 12.25, Reason.HISTORY),
        Recommendation(2**63 - 1, -0.5, Reason.VARIETY),
        Recommendation(7, -1.0, Reason.PINNED),
    ),
    Status.UNKNOWN_SESSION_ITEM,
    RELEASES,
)
TITLES = {50: Item("sku-50", "A short title"), 7: Item("sku-7", "七人の侍")}


def test_a_page_without_titles_shows_wire_ids() -> None:
    assert format_page(PAGE) == (
        "#                 item   score  reason\n"
        "1                   50  12.250  from the user's history\n"
        "2  9223372036854775807  -0.500  for variety\n"
        "3                    7  -1.000  pinned by a rule\n"
        "status: some session items are unknown · release: 00ab12cd34ef"
    )


def test_a_page_with_titles_shows_keys_and_stays_aligned_for_wide_letters() -> None:
    assert format_page(PAGE, TITLES, latency=0.01234) == (
        "#  title                         item   score  reason\n"
        "1  A short title               sku-50  12.250  from the user's history\n"
        "2  ?              9223372036854775807  -0.500  for variety\n"
        "3  七人の侍                     sku-7  -1.000  pinned by a rule\n"
        "status: some session items are unknown · release: 00ab12cd34ef · 12.3 ms"
    )


def test_a_long_title_is_cut() -> None:
    page = Page(PAGE.items[:1], Status.OK, RELEASES)
    line = format_page(page, {50: Item("k", "word " * 40)}).splitlines()[1]
    assert "word wor…  " in line
    assert len(line) < 100


def test_a_page_of_an_experiment_names_its_arm() -> None:
    page = Page(PAGE.items, Status.OK, RELEASES, "challenger")
    assert format_page(page).endswith(" · release: 00ab12cd34ef · arm: challenger")
    assert page_to_json(page)["arm"] == "challenger"
    assert page_to_json(PAGE)["arm"] is None


def test_an_empty_page_says_so() -> None:
    lines = format_page(Page((), Status.SHORT_PAGE, RELEASES)).splitlines()
    assert lines[1] == "(no items)"


def test_a_mixed_page_shows_each_stage_s_release() -> None:
    page = Page(PAGE.items, Status.OK, {**RELEASES, "rank": "ffffffffffff"})
    assert "MIXED: feature_lookup 00ab12cd34ef, retrieve 00ab12cd34ef, rank ffffffffffff" in format_page(page)
    assert page_to_json(page)["release"] is None


def test_every_status_has_words() -> None:
    assert set(STATUS_WORDS) == set(Status)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.OK, "fully personal"),
        (Status.UNKNOWN_USER, "unknown user"),
        (Status.UNKNOWN_USER | Status.SHORT_PAGE, "unknown user, fewer items than a page holds"),
        (Status(4096 + 1), "anonymous user, code 4096"),
    ],
)
def test_a_status_is_said_in_words(status: Status, words: str) -> None:
    assert describe_status(status) == words


def test_json_keeps_63_bit_ids_as_strings() -> None:
    content = json.loads(json.dumps(page_to_json(PAGE, TITLES, latency=0.0123456)))
    assert content["items"][1] == {
        "rank": 2,
        "item_id": "9223372036854775807",
        "key": None,
        "title": None,
        "score": -0.5,
        "reason": "VARIETY",
        "channel": "NONE",
        "because": None,
        "words": "for variety",
        "propensity": 1.0,
    }
    assert content["items"][0]["key"] == "sku-50"
    assert content["status"] == ["UNKNOWN_SESSION_ITEM"]
    assert content["release"] == "00ab12cd34ef"
    assert content["latency_ms"] == 12.346
