"""Refreshing again and again: on a schedule, or as soon as enough has happened."""

from __future__ import annotations

import time

from rich.console import Console

from python_backend.release import Release
from python_backend.stores import StoreUnavailable
from tools.config.build import BuildConfig
from tools.data.gather import open_log
from tools.releases.gates import Judgement, judge
from tools.releases.refresh import count_waiting, refresh
from tools.serving.activation import ActivationRefused, Control, NotServed
from tools.serving.lock import Busy

LOOK_EVERY = 2.0
"""Seconds between two looks at the log."""


def watch(config: BuildConfig, *, every: int | None, events: int | None, address: str | None) -> None:
    """Refresh when `every` seconds have passed since the last time, or `events` have been logged; for ever.

    Nothing is refreshed where nothing was logged. With `address` (gRPC) each release is activated on that
    server if it passes its gates. A store that is away is waited for, a refused activation is told and the
    old release serves on; anything else ends the watch: KeyboardInterrupt, or what `refresh` raises.
    """
    console = Console(highlight=False)
    limits = {"every {:,} s": every, "after {:,} events": events}
    words = " or ".join(text.format(limit) for text, limit in limits.items() if limit is not None)
    with open_log(config) as log:  # its location holds no password
        console.print(f"watching {log.location}: refreshing {words}; Ctrl-C ends it", soft_wrap=True)
    last, complained, useless = time.monotonic(), False, 0
    while True:
        try:
            waiting = count_waiting(config) - useless
            complained = False
        except StoreUnavailable as error:
            if not complained:
                console.print(f"waiting for the store: {error}")
            waiting, complained = 0, True
        late = every is not None and time.monotonic() - last >= every
        if waiting and (late or (events is not None and waiting >= events)):
            console.print(f"{time.strftime('%H:%M:%S')} refreshing: {waiting:,} events are new")
            release = refresh(config, console)
            last = time.monotonic()
            if release is None:
                useless += waiting  # of items that the data do not have, for instance
            elif address is not None:
                _activate(config, Release.open(release), address, console)
        time.sleep(LOOK_EVERY)


def _activate(config: BuildConfig, release: Release, address: str, console: Console) -> None:
    """Activate `release` if it passes its gates; what stands against it is told and kept from nobody."""

    def gates(candidate: Release, active: Release | None) -> Judgement:
        return judge(candidate.path, None if active is None else active.path, config.gates)

    try:
        with Control(config.output, address, say=lambda text: console.print(text, markup=False)) as control:
            control.activate(release, gates=gates)
        console.print(f"{time.strftime('%H:%M:%S')} serving release {release.name}")
    except (ActivationRefused, Busy, NotServed) as error:
        console.print(f"release {release.name} is not activated: {error}", soft_wrap=True, markup=False)
