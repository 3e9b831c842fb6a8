"""Rolling a release out: patch, watch, ask, and go back where it does not serve.

The pods are rolled by the cluster; with ``maxUnavailable: 0`` the old ones serve until new ones are ready.
Here is what a cluster does not do by itself: it finds that a rollout is stuck but leaves it so, and it knows
nothing of what a page should look like.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain
from typing import Any

from rich.console import Console

from python_backend.release import Release
from tools.checks import CheckFailed
from tools.cluster.api import ClusterError, Conflict, Unreachable
from tools.cluster.deployment import BEFORE, Deployment, annotation_of, patch_to, release_of
from tools.cluster.judging import crash_of, hindrances_of, progress_of
from tools.cluster.service import Service
from tools.progress import Steps, Update

LOOK = 2
"""Seconds after which everything is read anew: pods change without their Deployment."""
TRIES = 10
"""How often a change is tried that somebody else's changes keep getting in the way of."""
PAUSE = 1.0
"""Seconds until an API that did not answer is asked again."""


class RolledBack(RuntimeError):
    """The release does not serve, and the one before it serves again; the message says why."""


class Refused(RuntimeError):
    """Somebody else is at it, and was left to it; the message says how."""


class Broken(RuntimeError):
    """The release does not serve, and nothing is known to serve instead: somebody has to look."""


class _Failed(RuntimeError):
    """The release must go; the message says why."""


def forward(deployment: Any, release: str, before: str | None) -> dict[str, Any]:
    """The patch that has `deployment` serve `release`, and go back `before` it where it fails."""
    return patch_to(deployment, release, before=before, cause=f"release {release}, after {before}")


class Rollout:
    """Rollouts of `deployment`, whose pages are asked through `service`.

    A rollout may take `wait` seconds, and so may the way back. With `with_rules` an operator's rules are in
    force, see `tools.releases.golden.check_golden_pages`.
    """

    def __init__(
        self,
        deployment: Deployment,
        service: Service,
        *,
        wait: float,
        console: Console,
        with_rules: bool = False,
    ) -> None:
        self._deployment = deployment
        self._service = service
        self._wait = wait
        self._console = console
        self._with_rules = with_rules

    def before(self, deployment: Any, release: str) -> str | None:
        """The release to go back to from `release`; None where nothing serves.

        Raises CheckFailed where something should serve but does not answer.
        """
        told = release_of(deployment.spec.template)
        if told == release:  # a rollout that was interrupted goes on
            return annotation_of(deployment, BEFORE)
        if deployment.status.available_replicas:
            return self._service.release()
        return None

    def start(self, deployment: Any, release: Release, before: str | None) -> None:
        """Have the cluster serve `release`, where `deployment` is what was read of it; return when it does.

        Where it does already, it is only asked. Raises Refused where somebody else rolls out something at the
        same time, RolledBack and Broken, and CheckFailed where what was served before answers otherwise.
        """
        was = release_of(deployment.spec.template)
        if was == release.name and progress_of(deployment).complete:
            # Nothing was begun, so nothing is taken back: whether to go back is for somebody to decide.
            with Steps(1, self._console).step("asking its golden requests") as update:
                self._ask(release, update)
            return
        steps = Steps(3, self._console)
        with steps.step(f"having it serve {release.name}"):
            try:
                self._change(
                    deployment,
                    release.name,
                    lambda found: forward(found, release.name, before),
                    expected=was,
                )
            except Unreachable as error:
                raise Broken(f"whether {release.name} is being rolled out is not known: {error}") from error
        try:
            with steps.step("rolling the pods") as update:
                self._follow(release.name, update)
            with steps.step("asking its golden requests") as update:
                self._ask(release, update)
        except (_Failed, CheckFailed) as error:
            self._console.print(f"release {release.name}: {error}", style="red", markup=False, soft_wrap=True)
            self._go_back(release.name, before, str(error))
        except ClusterError as error:
            raise Broken(f"release {release.name} is being rolled out, but {error}") from error

    def _change(
        self,
        deployment: Any,
        release: str,
        patch: Callable[[Any], dict[str, Any]],
        *,
        expected: str | None,
    ) -> None:
        """Have it serve `release` by `patch` of it, again where somebody was faster.

        Unless it is not told the `expected` release any more.
        """
        for _ in range(TRIES):
            told = release_of(deployment.spec.template)
            if told == release:
                return  # the answer to the last try was lost
            if told != expected:
                raise Refused(f"somebody else has just had {self._deployment} serve {told}")
            try:
                self._deployment.patch(patch(deployment))
                return
            except (Conflict, Unreachable):
                time.sleep(PAUSE / 10)  # not as fast as the controller, which writes the status
                deployment = self._read()
        raise Refused(f"{self._deployment} was changed by somebody else {TRIES} times in a row; try again")

    def _read(self) -> Any:
        """The Deployment, although the API may not answer at once. Raises ClusterError."""
        end = time.monotonic() + self._wait
        while True:
            try:
                return self._deployment.read()
            except Unreachable:
                if time.monotonic() > end:
                    raise
                time.sleep(PAUSE)

    def _follow(self, release: str, update: Update) -> None:
        """Return when every pod serves `release`. Raises _Failed and Refused."""
        end = time.monotonic() + self._wait
        lost = False
        while True:
            begin = time.monotonic()
            try:
                deployment = self._deployment.read()
                seconds = max(1, min(LOOK, round(end - begin)))
                changes = self._deployment.changes(deployment.metadata.resource_version, seconds)
                for each in chain([deployment], changes):
                    if self._is_complete(each, release, update):
                        return
                    lost = False
                    if time.monotonic() > end:
                        break
            except Unreachable as error:
                if not lost:
                    self._console.print(f"  {error}; asking again", markup=False, soft_wrap=True)
                lost = True
            time.sleep(max(0.0, begin + PAUSE - time.monotonic()))  # whatever ended the watch at once
            if time.monotonic() > end:
                raise _Failed(f"is not whole after {self._wait:.0f} s")

    def _is_complete(self, deployment: Any, release: str, update: Update) -> bool:
        told = release_of(deployment.spec.template)
        if told != release:
            raise Refused(f"somebody else has had {self._deployment} serve {told} meanwhile")
        progress = progress_of(deployment)
        update(progress.ready, progress.wanted, progress.text)
        if progress.complete:
            return True
        pods = self._deployment.pods(deployment)
        if crash := crash_of(pods, release):
            raise _Failed(crash)
        if progress.problem:
            hindrances = hindrances_of(pods, release)
            raise _Failed(progress.problem + (f": {hindrances}" if hindrances else ""))
        return False

    def _ask(self, release: Release, update: Update) -> None:
        """Ask the golden requests, twice as often as there are pods: a Service draws one per connection."""
        times = 2 * (self._read().spec.replicas or 1)
        self._service.require(
            release,
            times,
            with_rules=self._with_rules,
            done=lambda done: update(done, times, "connections"),
        )

    def _go_back(self, failed: str, before: str | None, reason: str) -> None:
        if before is None:
            raise Broken(f"release {failed}: {reason}; no release is known that served before")
        steps = Steps(3, self._console)
        try:
            with steps.step(f"going back to {before}"):
                cause = f"release {before} again, {failed} did not serve"
                self._change(
                    self._read(),
                    before,
                    lambda found: patch_to(found, before, before=None, cause=cause, failed=failed),
                    expected=failed,
                )
            with steps.step("rolling the pods back") as update:
                self._follow(before, update)
            with steps.step("asking what serves"):
                self._service.require_name(before)
        except (_Failed, CheckFailed, ClusterError) as error:
            raise Broken(f"release {failed}: {reason}; and going back to {before}: {error}") from error
        raise RolledBack(f"release {failed}: {reason}; release {before} serves again")
