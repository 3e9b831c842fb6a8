from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from tools import progress
from tools.progress import Steps


@pytest.fixture
def screen() -> Callable[..., Console]:
    return lambda *, terminal: Console(
        file=io.StringIO(), width=120, highlight=False, force_terminal=terminal, color_system=None
    )


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_every_step_leaves_a_numbered_line_and_its_time(
    screen: Callable[..., Console], terminal: bool
) -> None:
    console = screen(terminal=terminal)
    steps = Steps(2, console)
    for name in ("reading", "training"):
        with steps.step(name) as update:
            update(1, 2, "half way")
            update(2, 2, "done")
    assert list(steps.timings) == ["reading", "training"]
    assert all(seconds >= 0 for seconds in steps.timings.values())
    assert " 1/2  reading" in text_of(console)
    assert " 2/2  training" in text_of(console)
    assert text_of(console).count("✓") == 2


def test_where_nobody_watches_a_long_step_shows_a_sign_of_life_now_and_then(
    screen: Callable[..., Console], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    console = screen(terminal=False)
    with Steps(1, console).step("training") as update:
        for second in range(50):
            clock = float(second)
            update(second, 50, f"loss {second}")
    lines = [line.split() for line in text_of(console).splitlines()]
    assert [line[2:] for line in lines[:-1]] == [["21/50", "loss", "21"], ["42/50", "loss", "42"]]
    assert lines[-1][-3:] == ["✓", "49.0", "s"]


def test_a_step_that_fails_is_not_done(screen: Callable[..., Console]) -> None:
    console = screen(terminal=False)
    steps = Steps(1, console)
    with pytest.raises(ValueError, match="broken"), steps.step("reading"):
        raise ValueError("broken")
    assert steps.timings == {}
    assert "✓" not in text_of(console)
