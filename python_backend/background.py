"""Work that must not get in the way of requests, such as loading a release beside the one that serves."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

NICENESS = 10
"""What steps back gets a tenth of a processor that somebody else wants: little, but never nothing."""


def in_background(work: Callable[[], Result]) -> Result:
    """The result of `work`, done with a lower priority than that of the calling thread; it waits.

    Raises what `work` raises. A thread may always lower its priority, but without privileges never raise it
    again, so the work has a thread of its own.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        step_back()
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def step_back() -> None:
    """Lower the priority of the calling thread; where that is not allowed, go on as before."""
    # On Linux a niceness belongs to a thread, and 0 is the calling one.
    with contextlib.suppress(OSError):
        niceness = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, 0, max(niceness, NICENESS))


def step_forward(niceness: int) -> bool:
    """Give the calling thread the priority `niceness`; False where only a privileged user may do so."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    except OSError:
        return False
    return True


def may_step_forward() -> bool:
    """Whether this user's threads may step forward again when they have stepped back."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    return in_background(lambda: step_forward(niceness))
