"""Making a release the active one while nothing serves: the next server starts with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from python_backend.release import Release
from tools.releases.folder import NoReleaseError
from tools.releases.manifest import note_forced
from tools.serving.activation import Gates, require_release
from tools.serving.history import Activation, note_activation
from tools.serving.lock import exclusively
from tools.serving.model_control import ModelControl
from tools.serving.repository import write_served_repository
from tools.serving.served import ServedRepository, open_release
from tools.serving.steps import NotServed, Show, Steps


def activate_offline(
    build: Path,
    release: Release,
    *,
    address: str,
    gates: Gates | None,
    forced: str | None,
    wait: float = 600.0,
    show: Show = lambda name: contextlib.nullcontext(),
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Have ``build``/served start with `release`; arms stay. Nothing is loaded, so less is checked.

    Raises ActivationRefused, Busy, and NotServed where a server answers at `address`.
    """
    step = Steps(show, say)
    served = ServedRepository(build / "served")
    with exclusively(served.folder, wait=wait, say=say):
        with ModelControl(address) as triton:
            if triton.answers():
                raise NotServed(f"a Triton answers at {address}; activate without --offline")
        served.tidy()
        active = served.active
        arms = served.arms
        try:
            old = open_release(build, active) if active else None
        except NoReleaseError:
            old = None  # removed; there is nothing to compare with
        failed = require_release(release, old, gates, forced, step)
        with step("write"):
            paths = [release.path, *(open_release(build, name).path for name in set(arms.values()))]
            write_served_repository(
                paths,
                release.name,
                served.folder,
                overrides=served.overrides,
                tuning=served.tuning,
                arms=arms,
                plans=served.plans,
            )
        if forced:
            note_forced(release.path, forced, failed)
        note_activation(build, Activation(release.name, active, "offline", forced=forced))
