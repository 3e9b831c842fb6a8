"""The steps of an activation, and what it means that one of them fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tritonclient.utils import InferenceServerException

from tools.checks import CheckFailed
from tools.releases.folder import NoReleaseError
from tools.serving.model_files import RepositoryError

STEPS = {
    "repair": "looking for what was left half done",
    "verify": "recomputing the release's hashes",
    "contract": "comparing inputs and outputs",
    "gates": "judging its metrics",
    "write": "writing its models",
    "load": "loading it beside the active release",
    "golden": "asking its golden requests",
    "warm": "warming it",
    "feedback": "loading the models that write",
    "repoint": "writing what recommend points at",
    "switch": "switching",
    "canary": "asking recommend",
    "drain": "waiting for requests in flight",
    "unload": "unloading what nobody needs any more",
}
"""The steps of an activation, in order, in words."""

Show = Callable[[str], AbstractContextManager[object]]
"""Shows a step, given by its name in `STEPS`, while a with block runs."""


class ActivationRefused(RuntimeError):
    """A release that does not serve; what served before serves on.

    `step` is the name in `STEPS` of the step that failed, `reason` says why.
    """

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason


class NotServed(RuntimeError):
    """There is no server to control, or it serves something else; the message says what to do."""


class Steps:
    """The steps of one command: each is shown, and what goes wrong in it is the reason of a refusal."""

    def __init__(
        self,
        show: Show = lambda text: contextlib.nullcontext(),
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._show = show
        self.say = say

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Show the step `name` of `STEPS`. Raises ActivationRefused for what goes wrong in the with block."""
        with self._show(name):
            try:
                yield
            except InferenceServerException as error:
                raise ActivationRefused(name, error.message()) from error
            except (CheckFailed, RepositoryError, NoReleaseError, OSError, ValueError) as error:
                raise ActivationRefused(name, str(error)) from error
