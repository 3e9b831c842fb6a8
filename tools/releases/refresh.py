"""Refreshing: a release that goes on from the active one, with what users did since."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rich.console import Console

from python_backend.release import Release
from tools.config.build import BuildConfig
from tools.data.feedback import count_fresh
from tools.data.gather import Gathered, gather, open_log
from tools.progress import Steps
from tools.releases.build import build_release, find_built, fingerprint_of
from tools.releases.folder import NoReleaseError, find_release, find_releases
from tools.releases.manifest import combined_hash, read_manifest
from tools.releases.slots import more_steps
from tools.serving.served import ServedRepository
from tools.training.checkpoint import Checkpoint

STEPS = 6
SERVED = "served"


def active_release(build: Path) -> Release | None:
    """The release that `build`/served serves, or would when it is started; None where there is none yet."""
    name = ServedRepository(build / SERVED).active
    try:
        return None if name is None else find_release(build, name)
    except NoReleaseError:
        return None


def basis(config: BuildConfig) -> Release:
    """The release that a refresh goes on from: the active one, else the newest. Raises NoReleaseError."""
    return active_release(config.output) or find_release(config.output)


def refresh(config: BuildConfig, console: Console, active: Release | None = None) -> Path | None:
    """Train on from the active release and write a new one; its folder, None where there is nothing new.

    `active` names that release where ``config.output`` does not tell, as on a cluster's volume.

    New are events in the log since that release, items that it does not have, and people who asked to be
    forgotten since. Raises what `build_release` and `gather` raise, NoReleaseError and NoCheckpointError.
    """
    release = active or basis(config)
    checkpoint = Checkpoint.of(release)
    steps = Steps(STEPS + more_steps(config, refresh=True), console)
    with steps.step("reading the data and what was logged since") as update:
        gathered = gather(
            config,
            lambda what, rows: update(rows, rows, f"{what}: {rows:,} rows"),
            learn=True,
            since=logged_until(release),
        )
    new_items = int((checkpoint.rows_of(gathered.dataset.interactions.item_ids[1:]) == 0).sum())
    fresh = int(gathered.gained.sum())
    users = int((gathered.gained > 0).sum())
    gone = len(gathered.forgotten) - int(read_manifest(release.path).get("forgotten", 0))
    if not (fresh or new_items or gone):
        console.print(f"nothing new since release {release.name}: no event, no item, nobody to forget")
        return None
    console.print(
        f"  since release {release.name}: {fresh:,} events of {users:,} users, {new_items:,} new items,"
        f" {gone:,} people to forget",
        soft_wrap=True,
    )
    for note in gathered.dataset.notes:
        console.print(f"  note: {note}", markup=False)
    fingerprint = fingerprint_of(config, release.name, contents(gathered))
    built = find_built(config, fingerprint)
    if built is not None:
        console.print(f"reusing release {built.name}: the same was refreshed before")
        return built
    return build_release(config, gathered, fingerprint, steps, active=release, refreshed=checkpoint)


def logged_until(release: Release) -> str:
    """The position in the event log up to which `release` has learned; "" where it knows files alone."""
    feedback = read_manifest(release.path).get("feedback")
    return str(feedback["end"]) if feedback else ""


def count_waiting(config: BuildConfig) -> int:
    """How many logged events the newest release has not learned from. Raises StoreUnavailable."""
    newest = find_releases(config.output)[-1]
    with open_log(config) as log:
        return count_fresh(log, config.feedback.kinds, logged_until(newest))


def contents(gathered: Gathered) -> str:
    """What is learned from, as one hash."""
    interactions = gathered.dataset.interactions
    arrays = (interactions.items, interactions.timestamps, interactions.user_ids, interactions.offsets)
    return combined_hash([hashlib.blake2b(array.tobytes()).hexdigest() for array in arrays])
