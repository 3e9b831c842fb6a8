"""`rerank` under an operator's rules; what the shop sells is described in shop.py."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shop import CANDIDATES, COLOURS, GENRES, N_ITEMS, RESULTS, Ask, batch_of, make_release, page, pages
from tritonrec_client.contract import Reason, Status

from python_backend.release import Release
from python_backend.rules import InvalidRules
from python_backend.stages.rerank import Rerank

EIGHT = Ask([5, 3, 8, 1, 2, 9, 4, 7], [8, 7, 6, 5, 4, 3, 2, 1])
MakeStage = Callable[[str], Rerank]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_release(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def stage_with(release: Release, tmp_path: Path) -> MakeStage:
    """Loads the stage with a rules file of this text."""

    def make(text: str) -> Rerank:
        (tmp_path / "rules.toml").write_text(text, encoding="utf-8")
        return Rerank.load(release, {"rules_file": str(tmp_path / "rules.toml")})

    return make


def pin(item: int | str, position: int) -> str:
    return f"[[pinned]]\nitem = {item!r}\nposition = {position}\n"


def cap(field: str, at_most: int) -> str:
    return f"[[caps]]\nfield = '{field}'\nat_most = {at_most}\n"


def test_no_rules_file_is_no_rules(release: Release) -> None:
    for options in ({}, {"rules_file": ""}):
        assert page(Rerank.load(release, options), EIGHT).items == [5, 3, 8, 1]


# Blocked.


@pytest.mark.parametrize("diversity", [0.0, 1.0])
def test_a_blocked_item_is_never_shown(stage_with: MakeStage, diversity: float) -> None:
    shown = page(stage_with("blocked = [105, 108]"), replace(EIGHT, diversity=diversity))
    assert not {5, 8} & set(shown.items)
    assert 0 not in shown.items


def test_blocking_hands_its_probability_to_the_others(stage_with: MakeStage) -> None:
    even = Ask([1, 2, 3, 4], [0, 0, 0, 0])
    assert page(stage_with("blocked = [104]"), even).scores == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])


def test_blocking_everything_that_was_retrieved_leaves_an_empty_page(stage_with: MakeStage) -> None:
    empty = page(stage_with("blocked = [101, 102]"), Ask([1, 2], [1, 0]))
    assert empty.items == [0] * RESULTS
    assert empty.status == Status.SHORT_PAGE


def test_ids_that_the_release_does_not_have_change_nothing_and_are_told(
    stage_with: MakeStage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        stage = stage_with("blocked = [999, '105']\n" + pin("sku-4", 1))
    assert page(stage, EIGHT).items == [5, 3, 8, 1]
    for item in ("999", "'105'", "'sku-4'"):
        assert f"the release has no item {item}" in caplog.text


# Pinned.


def test_a_pinned_item_takes_its_place_and_the_others_move_down(stage_with: MakeStage) -> None:
    pinned = page(stage_with(pin(112, 2)), EIGHT)
    assert pinned.items == [5, 12, 3, 8]
    assert pinned.reasons == [Reason.HISTORY, Reason.PINNED, Reason.HISTORY, Reason.HISTORY]


def test_a_pinned_candidate_stands_at_its_place_only(stage_with: MakeStage) -> None:
    assert page(stage_with(pin(105, 3)), EIGHT).items == [3, 8, 5, 1]
    assert page(stage_with(pin(104, 1)), EIGHT).items == [4, 5, 3, 8]


def test_several_items_are_pinned_at_once_in_any_order(stage_with: MakeStage) -> None:
    pinned = page(stage_with(pin(112, 4) + pin(103, 1)), EIGHT)
    assert pinned.items == [3, 5, 8, 12]
    assert pinned.reasons == [Reason.PINNED, Reason.HISTORY, Reason.HISTORY, Reason.PINNED]


def test_a_pinned_item_is_not_shown_to_those_who_have_seen_it(stage_with: MakeStage) -> None:
    stage = stage_with(pin(112, 1))
    fresh, seen = pages(stage, EIGHT, replace(EIGHT, seen=[12]))
    assert fresh.items == [12, 5, 3, 8]
    assert seen.items == [5, 3, 8, 1]
    assert Reason.PINNED not in seen.reasons


def test_a_pinned_candidate_keeps_its_probability_and_another_has_none(stage_with: MakeStage) -> None:
    plain = page(stage_with(""), EIGHT)
    pinned = page(stage_with(pin(108, 1) + pin(112, 2)), EIGHT)
    assert pinned.items == [8, 12, 5, 3]
    assert pinned.scores == [plain.scores[2], 0.0, plain.scores[0], plain.scores[1]]


def test_an_item_that_is_pinned_and_blocked_is_blocked(
    stage_with: MakeStage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        stage = stage_with("blocked = [105]\n" + pin(105, 1))
    assert page(stage, EIGHT).items == [3, 8, 1, 2]
    assert "pinned: item 105 is not shown; it is blocked" in caplog.text


def test_a_position_beyond_the_page_is_ignored_and_told_and_its_item_competes_as_any_other(
    stage_with: MakeStage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        stage = stage_with(pin(105, RESULTS + 1))
    assert page(stage, EIGHT) == page(stage_with(""), EIGHT)
    assert "position 5 is ignored; a page has 4 places" in caplog.text


def test_on_a_short_page_a_pinned_item_moves_up(stage_with: MakeStage) -> None:
    short = page(stage_with(pin(112, 4)), Ask([1, 2], [1, 0]))
    assert short.items == [1, 2, 12, 0]
    assert short.reasons == [Reason.HISTORY, Reason.HISTORY, Reason.PINNED, Reason.PADDING]
    assert short.status == Status.SHORT_PAGE


def test_with_nothing_retrieved_the_pinned_items_are_the_page(stage_with: MakeStage) -> None:
    alone = page(stage_with(pin(112, 3)), Ask([], []))
    assert (alone.items, alone.scores) == ([12, 0, 0, 0], [0, 0, 0, 0])


def test_diversity_counts_from_the_pinned_items_above(stage_with: MakeStage) -> None:
    # Items 1 and 2 are like item 3; 4 is not.
    ask = Ask([1, 2, 4], [4, 3.75, 3.5], diversity=0.5)
    assert page(stage_with(pin(103, 1)), ask).items == [3, 4, 1, 2]


# Caps.


def test_a_cap_holds_for_each_value_of_its_field(stage_with: MakeStage) -> None:
    capped = page(stage_with(cap("colour", 1)), EIGHT)
    assert capped.items == [5, 3, 0, 0]  # red, blue, and the others are red or blue as well
    assert capped.status == Status.SHORT_PAGE
    assert page(stage_with(cap("colour", 2)), EIGHT).items == [5, 3, 8, 1]


def test_every_value_of_an_item_counts(stage_with: MakeStage) -> None:
    """Item 3 is of genres a and b, 8 of c and a: either fills a's place for both."""
    ask = Ask([3, 8, 1, 4, 6, 9], [6, 5, 4, 3, 2, 1])
    assert page(stage_with(cap("genre", 1)), ask).items == [3, 6, 9, 0]


def test_items_without_a_value_are_not_capped(stage_with: MakeStage) -> None:
    ask = Ask([11, 12, 10], [3, 2, 1])
    assert page(stage_with(cap("genre", 1)), ask).items == [11, 10, 0, 0]


def test_several_caps_hold_together(stage_with: MakeStage) -> None:
    ask = Ask([1, 4, 6, 9, 3], [5, 4, 3, 2, 1])  # red, blue, green, red, blue
    assert page(stage_with(cap("genre", 1) + cap("colour", 1)), ask).items == [1, 4, 6, 0]


def test_what_moves_up_because_of_a_cap_is_there_for_variety(stage_with: MakeStage) -> None:
    ask = Ask([1, 2, 5, 7, 6, 4], [6, 5, 4, 3, 2, 1])
    capped = page(stage_with(cap("colour", 2)), ask)
    assert capped.items == [1, 2, 6, 4]
    assert capped.reasons == [Reason.HISTORY, Reason.HISTORY, Reason.VARIETY, Reason.VARIETY]


def test_pinned_items_count_wherever_they_stand(stage_with: MakeStage) -> None:
    """Item 11 is of genre e, so 12, also e, may not stand above it."""
    ask = Ask([12, 5, 1, 6], [4, 3, 2, 1])
    assert page(stage_with(pin(111, 4) + cap("genre", 1)), ask).items == [5, 1, 6, 11]
    # To whom the pinned item is not shown, it takes no place.
    assert page(stage_with(pin(111, 4) + cap("genre", 1)), replace(ask, seen=[11])).items == [12, 5, 1, 6]


def test_pinned_items_alone_may_exceed_a_cap(stage_with: MakeStage) -> None:
    stage = stage_with(pin(111, 1) + pin(112, 2) + cap("genre", 1))
    assert page(stage, EIGHT).items == [11, 12, 5, 8]


def test_a_cap_on_a_field_that_the_release_lacks_is_ignored_and_told(
    stage_with: MakeStage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        stage = stage_with(cap("brand", 1))
    assert page(stage, EIGHT).items == [5, 3, 8, 1]
    assert "caps: field 'brand' is ignored; the release has colour, genre" in caplog.text


# All of them, on any request.

items = st.lists(st.integers(1, N_ITEMS), unique=True, max_size=CANDIDATES)
asks = st.builds(
    Ask,
    items=items,
    logits=st.just([2, 1.75, 1.75, 1, 0.5, 0, -1, -1]),
    diversity=st.integers(0, 8).map(lambda eighths: eighths / 8),
    seen=st.lists(st.integers(1, N_ITEMS), unique=True, max_size=6),
    history=st.sampled_from([(), (1,)]),
).map(lambda ask: replace(ask, logits=ask.logits[: len(ask.items)]))


@pytest.fixture(scope="module")
def ruled(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Rerank:
    path = tmp_path_factory.mktemp("rules") / "rules.toml"
    path.write_text("blocked = [101, 104]\n" + pin(112, 2) + pin(103, 4) + cap("genre", 1) + cap("colour", 2))
    return Rerank.load(release, {"rules_file": str(path)})


@given(st.lists(asks, min_size=1, max_size=5))
def test_a_batch_is_its_requests_one_by_one(ruled: Rerank, batch: list[Ask]) -> None:
    assert pages(ruled, *batch) == [page(ruled, ask) for ask in batch]


@given(asks)
def test_rules_hold_on_every_page(ruled: Rerank, ask: Ask) -> None:
    found = page(ruled, ask)
    shown = [item for item in found.items if item]
    assert found.items == shown + [0] * (RESULTS - len(shown))
    assert len(set(shown)) == len(shown)
    assert not set(shown) & {1, 4, *ask.seen}
    pinned = [
        item for item, reason in zip(found.items, found.reasons, strict=True) if reason == Reason.PINNED
    ]
    assert pinned == [item for item in (12, 3) if item not in ask.seen]
    for values, at_most in ((GENRES, 1), (COLOURS, 2)):
        counts = [value for item in shown for value in np.atleast_1d(values[item - 1])]
        assert all(counts.count(value) <= at_most for value in counts)


# The file.


def test_a_rules_file_that_is_broken_at_load_is_refused_with_file_and_key(
    release: Release, stage_with: MakeStage, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRules, match=r"rules.toml: pinned\[1\].position: .* found 0"):
        stage_with(pin(105, 0))
    with pytest.raises(InvalidRules, match=r"none.toml: .*No such file"):
        Rerank.load(release, {"rules_file": str(tmp_path / "none.toml")})


def test_a_changed_file_holds_from_the_next_page_on(stage_with: MakeStage, tmp_path: Path) -> None:
    stage = stage_with("blocked = [105]")
    assert page(stage, EIGHT).items == [3, 8, 1, 2]
    (tmp_path / "rules.toml").write_text("blocked = [103, 108]", encoding="utf-8")
    assert page(stage, EIGHT).items == [5, 1, 2, 9]
    (tmp_path / "rules.toml").write_text("", encoding="utf-8")
    assert page(stage, EIGHT).items == [5, 3, 8, 1]


@pytest.mark.parametrize("broken", ["blocked = [", "blocked = [-5]", "blocked = [105]\ntypo = 1", None])
def test_a_file_that_breaks_later_leaves_the_last_good_rules_in_force(
    stage_with: MakeStage, tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    stage, path = stage_with("blocked = [105]"), tmp_path / "rules.toml"
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken, encoding="utf-8")
    for _ in range(3):
        assert page(stage, EIGHT).items == [3, 8, 1, 2]
    assert caplog.text.count("the last good rules stay in force") == 1
    path.write_text("blocked = [103]", encoding="utf-8")
    assert page(stage, EIGHT).items == [5, 8, 1, 2]


def test_a_request_of_zeros_is_answered_under_rules_as_well(ruled: Rerank) -> None:
    zeros = {name: np.zeros_like(array) for name, array in batch_of(EIGHT).items()}
    # The pinned items remain: nobody has seen them.
    assert ruled(zeros)["item_id"].tolist() == [[112, 103, -1, -1]]
