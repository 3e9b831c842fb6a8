"""Why an item is on a page, in words."""

from __future__ import annotations

import pytest
from tritonrec_client import Reason, Recommendation
from tritonrec_client.contract import FoundBy
from tritonrec_client.reasons import CHANNEL_WORDS, REASON_WORDS, describe

TITLE = "Seven Samurai"


def place(reason: int, channel: int = FoundBy.NONE, because: int | None = 7) -> Recommendation:
    return Recommendation(50, 0.5, reason, channel, because)


def test_every_reason_and_every_channel_has_words() -> None:
    assert set(REASON_WORDS) == set(Reason) - {Reason.PADDING}
    assert set(CHANNEL_WORDS) == set(FoundBy) - {FoundBy.NONE}


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        (FoundBy.TRANSFORMER, "because of Seven Samurai"),
        (FoundBy.EASE, "goes with Seven Samurai"),
        (FoundBy.CONTENT, "similar to Seven Samurai"),
        (FoundBy.POPULARITY, "popular just now"),
    ],
)
def test_the_channel_and_the_item_of_the_history_are_the_reason(channel: FoundBy, words: str) -> None:
    assert describe(place(Reason.HISTORY, channel), TITLE) == words
    assert describe(place(Reason.VARIETY, channel), TITLE) == f"for variety: {words}"


def test_without_a_title_there_is_only_the_reason() -> None:
    assert describe(place(Reason.HISTORY, FoundBy.EASE)) == "from the user's history"


def test_nobody_s_history_is_named_to_a_newcomer_or_for_a_rule() -> None:
    assert describe(place(Reason.POPULAR, FoundBy.TRANSFORMER, None), TITLE) == "popular with newcomers"
    assert describe(place(Reason.PINNED, FoundBy.NONE), TITLE) == "pinned by a rule"
    assert describe(place(Reason.EXPLORED, FoundBy.NONE), TITLE) == "drawn to learn from it"


def test_a_reason_or_a_channel_of_a_newer_server_is_no_error() -> None:
    assert describe(place(77), TITLE) == "reason 77"
    assert describe(place(Reason.HISTORY, 78), TITLE) == "from the user's history"
