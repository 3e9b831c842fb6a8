"""Whether clients of one release can be served by another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from python_backend.release import Release
from tools.checks import CheckFailed
from tools.serving.compatibility import require_compatible

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


@pytest.fixture
def pair(new_release: Callable[[str], Path]) -> tuple[Release, Release]:
    """The release that is to be active, and the one that is."""
    old, new = (Release.open(new_release(name)) for name in (OLD, NEW))
    return new, old


def change(release: Release, before: str, after: str) -> None:
    path = release.path / "models" / "recommend" / "config.pbtxt"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after, 1))


def test_the_same_contract_fits(pair: tuple[Release, Release]) -> None:
    assert require_compatible(*pair) == []


def test_another_width_fits_and_is_told(pair: tuple[Release, Release]) -> None:
    change(pair[0], "dims: 3", "dims: 4")

    assert require_compatible(*pair) == [f"input session_items is 4 wide; release {OLD} has 3"]


@pytest.mark.parametrize(
    ("place", "before", "after", "message"),
    [
        (0, 'name: "diversity"', 'name: "variety"', f"input diversity: release {OLD} has it, {NEW} does not"),
        (1, 'name: "diversity"', "", "not a model configuration|input"),
        (0, "TYPE_FP32", "TYPE_FP64", f"input diversity is TYPE_FP64; release {OLD} has TYPE_FP32"),
        (0, 'name: "reason"', 'name: "why"', f"output reason: release {OLD} has it, {NEW} does not"),
    ],
)
def test_what_clients_would_trip_over_does_not_fit(
    pair: tuple[Release, Release], place: int, before: str, after: str, message: str
) -> None:
    change(pair[place], before, after)

    with pytest.raises(CheckFailed, match=message):
        require_compatible(*pair)


def test_more_outputs_fit(pair: tuple[Release, Release]) -> None:
    change(pair[1], 'name: "reason"', 'name: "status"')

    assert require_compatible(*pair) == []
