"""Switching what a running Triton serves: all at once, under traffic, and repairable wherever it stops.

A release is loaded under its own names beside the one that serves. When it has passed every check,
`recommend` is repointed to its stages, which takes milliseconds; the old release goes when nothing is in
flight in it any more. Which release is active is said by ``recommend/config.pbtxt`` of the served repository
and by nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tritonclient.utils import InferenceServerException
from tritonrec_client.contract import RECOMMEND

from python_backend.release import Release
from tools.checks import CheckFailed
from tools.releases.folder import NoReleaseError
from tools.releases.golden import GOLDEN, check_golden
from tools.releases.manifest import note_forced, verify
from tools.serving.compatibility import require_compatible
from tools.serving.history import Activation, note_activation, previous_release
from tools.serving.live import LiveRepository
from tools.serving.lock import Busy, exclusively
from tools.serving.model_control import ModelControl
from tools.serving.model_files import RepositoryError
from tools.serving.repository import alias_of
from tools.serving.steps import STEPS, ActivationRefused, NotServed, Show, Steps

if TYPE_CHECKING:
    from tools.releases.gates import Judgement

__all__ = ["STEPS", "ActivationRefused", "Busy", "Control", "NotServed", "require_release"]

WARM_REQUESTS, WARM_AT_ONCE = 10, 1

Gates = Callable[[Release, Release | None], "Judgement"]
"""Judges the release that is to be active beside the one that is."""


class Control:
    """Control of what the Triton at `address` (gRPC) serves from ``build``/served, for a with block.

    Entering takes the repository's lock, waiting up to `wait` seconds, and first repairs what somebody left
    half done who was killed. `show` is called with the name of each step, `say` with what a person should
    know besides. Raises Busy, NotServed and ActivationRefused.
    """

    def __init__(
        self,
        build: Path,
        address: str,
        *,
        wait: float = 600.0,
        show: Show = lambda name: contextlib.nullcontext(),
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._build = build.resolve()
        self._address = address
        self._wait = wait
        self._step = Steps(show, say)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(exclusively(self._build / "served", wait=self._wait, say=self._step.say))
            triton = stack.enter_context(ModelControl(self._address))
            self._live = LiveRepository(self._build, triton, self._step)
            self._live.require_server()
            self._live.repair()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def active(self) -> Release:
        """The release that is active."""
        return self._live.active

    @property
    def arms(self) -> dict[str, str]:
        """The release of each arm of the running experiment, by the arm's name."""
        return self._live.served.arms

    def activate(
        self,
        release: Release,
        *,
        gates: Gates | None = None,
        forced: str | None = None,
        how: str = "activate",
    ) -> None:
        """Make `release` the active one.

        `gates` are asked if given; `forced`, a reason, passes over their verdict and over golden requests
        that were never written, and over nothing else. Raises ActivationRefused: before the switch the
        active release never stopped serving, after it was switched back to.
        """
        live = self._live
        old = live.active
        if release.name == old.name:
            self._step.say(f"release {release.name} is active already")
            return
        standalone = live.served.standalone
        try:
            failed = self._prepare(release, old, gates, forced, golden_may_lack=how == "rollback")
            with self._step("feedback"):
                live.load_standalone_models(release)
            if forced:
                note_forced(release.path, forced, failed)
            live.point(RECOMMEND.name, release)
        except BaseException:
            with self._undoing():
                if live.served.put_ensemble(old, RECOMMEND.name):
                    live.triton.load(RECOMMEND.name)
                for folder in set(standalone.values()):
                    live.load_standalone_models(Release.open(folder))
                live.remove(sorted(live.served.standalone.keys() - standalone.keys()))
                live.drop_unneeded()
            raise
        note_activation(self._build, Activation(release.name, old.name, how, forced=forced))
        live.drop_unneeded()

    def rollback(self) -> Release:
        """Make the release active that was so before; gates are not asked again. That release.

        Raises ActivationRefused where none was active before, or its folder is gone.
        """
        with self._step("verify"):
            name = previous_release(self._build, self._live.active_name)
            if name is None:
                raise CheckFailed(f"nothing is known to have been active before {self._live.active_name}")
            release = self._live.open(name)
        self.activate(release, how="rollback")
        return release

    def start_arms(
        self, arms: Mapping[str, Release], *, gates: Gates | None = None, forced: str | None = None
    ) -> None:
        """Serve each release of `arms` as ``recommend_<arm>`` beside `recommend`, and no other arms.

        Each release is checked as for an activation; those that serve already are not checked again. Raises
        ActivationRefused; then the arms are what they were.
        """
        live = self._live
        with self._step("contract"):
            wanted = {alias_of(arm): release for arm, release in arms.items()}
        before = {alias_of(arm): live.open(name) for arm, name in live.served.arms.items()}
        try:
            for release in wanted.values():
                if release.name not in live.served.releases:
                    failed = self._prepare(release, live.active, gates, forced, golden_may_lack=False)
                    if forced:
                        note_forced(release.path, forced, failed)
            for alias, release in wanted.items():
                live.point(alias, release)
        except BaseException:
            with self._undoing():
                live.remove(sorted(wanted.keys() - before.keys()))
                for alias, release in before.items():
                    if live.served.put_ensemble(release, alias):
                        live.triton.load(alias)
                live.drop_unneeded()
            raise
        with self._step("unload"):
            live.remove(sorted(before.keys() - wanted.keys()))
        live.drop_unneeded()

    def stop_arms(self) -> None:
        """End the experiment: its arms go, and the releases that only they used."""
        self.start_arms({})

    def _prepare(
        self,
        release: Release,
        active: Release,
        gates: Gates | None,
        forced: str | None,
        *,
        golden_may_lack: bool,
    ) -> list[str]:
        """Check `release`, load it beside what serves and warm it; the gates that it failed, if forced."""
        live = self._live
        failed = require_release(release, active, gates, forced, self._step)
        if release.name in live.needed:
            return failed  # it serves an arm: it was loaded and asked then
        ensemble = f"{RECOMMEND.name}_{release.name}"
        with self._step("write"):
            live.served.put_release(release)
        with self._step("load"):
            # Twice, so that a model which this server would start anew does so now and not at the switch.
            for _ in range(2):
                live.triton.load(ensemble)
        with self._step("golden"):
            if not (release.path / GOLDEN).exists() and (golden_may_lack or forced):
                self._step.say(f"release {release.name} brings no golden requests; it was not asked any")
            else:
                rules = bool(live.served.overrides.get("rules_file"))
                check_golden(live.triton.client, release, with_rules=rules)
        with self._step("warm"):
            live.triton.warm(ensemble, WARM_REQUESTS, WARM_AT_ONCE)
        return failed

    def _undoing(self) -> contextlib.AbstractContextManager[object]:
        """What cannot be undone, because the server is gone, is repaired by the next command."""
        return contextlib.suppress(
            ActivationRefused, InferenceServerException, OSError, RepositoryError, NoReleaseError
        )


def require_release(
    release: Release, active: Release | None, gates: Gates | None, forced: str | None, step: Steps
) -> list[str]:
    """Check what can be checked of `release` without a server; the gates that it failed, if `forced`.

    Raises ActivationRefused.
    """
    with step("verify"):
        if differences := [str(difference) for difference in verify(release.path)]:
            raise CheckFailed(f"release {release.name}: {'; '.join(differences)}")
    with step("contract"):
        for note in require_compatible(release, active) if active else []:
            step.say(note)
    if gates is None:
        return []
    with step("gates"):
        judgement = gates(release, active)
        step.say(judgement.table())
        failed = [line.metric for line in judgement.lines if not line.passed]
        if failed and not forced:
            raise CheckFailed(f"release {release.name} does not pass {', '.join(failed)}")
    return failed
