"""Which release was active when."""

from __future__ import annotations

from pathlib import Path

from tools.serving.history import FILE, Activation, note_activation, previous_release, read_activations

A, B, C = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"


def note(build: Path, *releases: str) -> None:
    for release in releases:
        known = read_activations(build)
        note_activation(build, Activation(release, known[-1].release if known else None, "activate"))


def test_a_build_that_was_never_served_has_none(tmp_path: Path) -> None:
    assert read_activations(tmp_path) == []
    assert previous_release(tmp_path, A) is None


def test_what_is_noted_is_read_with_its_time(tmp_path: Path) -> None:
    note_activation(tmp_path, Activation(A, None, "activate", forced="no time"))

    (activation,) = read_activations(tmp_path)
    assert (activation.release, activation.previous, activation.forced) == (A, None, "no time")
    assert activation.at.endswith("+00:00")


def test_the_release_before_the_active_one_is_that_of_its_last_activation(tmp_path: Path) -> None:
    note(tmp_path, A, B, A, C)

    assert previous_release(tmp_path, C) == A
    assert previous_release(tmp_path, A) == B


def test_rolling_back_twice_leads_forward_again(tmp_path: Path) -> None:
    note(tmp_path, A, B, A)

    assert previous_release(tmp_path, A) == B


def test_the_release_that_was_noted_last_is_not_noted_again(tmp_path: Path) -> None:
    note(tmp_path, A, B, B)

    assert [each.release for each in read_activations(tmp_path)] == [A, B]


def test_a_line_that_a_crash_cut_off_is_passed_over(tmp_path: Path) -> None:
    note(tmp_path, A)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"release": "bbbb')
    note(tmp_path, C)

    assert [each.release for each in read_activations(tmp_path)] == [A, C]
