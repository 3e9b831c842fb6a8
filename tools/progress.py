"""Progress of long work: a line per step, with a bar on a terminal and a sign of life elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

SIGN_OF_LIFE = 20.0
"""Seconds between lines of a step where the output is not a terminal."""

Update = Callable[[int, int, str], None]
"""Called with (done, total, what to say)."""


class Steps:
    """Numbered steps of one piece of work; `timings` collects their seconds by name."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        self.timings: dict[str, float] = {}
        self._total = total
        self._console = console or Console(highlight=False)

    @contextmanager
    def step(self, name: str) -> Iterator[Update]:
        """Show the step `name` while the block runs; the block may call what it gets."""
        label = f"{len(self.timings) + 1:2d}/{self._total}  {name}"
        begin = time.monotonic()
        show = self._bar(label) if self._console.is_terminal else self._lines(label)
        with show as update:
            yield update
        seconds = time.monotonic() - begin
        self.timings[name] = seconds
        self._console.print(f"{label:<48} [green]✓[/green] {seconds:6.1f} s")

    @contextmanager
    def _bar(self, label: str) -> Iterator[Update]:
        columns = (
            SpinnerColumn(),
            TextColumn(f"{label:<46}"),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(label, total=None, text="")
            yield lambda done, total, text: progress.update(task, completed=done, total=total, text=text)

    @contextmanager
    def _lines(self, label: str) -> Iterator[Update]:
        last = time.monotonic()

        def update(done: int, total: int, text: str) -> None:
            nonlocal last
            if time.monotonic() - last > SIGN_OF_LIFE:
                last = time.monotonic()
                self._console.print(f"{label:<48} {done}/{total}  {text}")

        yield update
