"""What users do, written down: into their records, so that the next page knows it, and into the event log.

What is acknowledged is on disk. What is not, because the store is away, may have been written all the same;
the caller sends it again with the same event id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import numpy as np
from tritonrec_client.contract import (
    MAX_ID,
    NO_PLACE,
    NO_PROPENSITY,
    NO_RELEASE,
    Event,
    release_from_wire,
)

from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, InvalidRequest, Stage, Unavailable
from python_backend.stages.options import event_log
from python_backend.stores import EventLog, StoreUnavailable, UserEvent

AHEAD = 24 * 3600
"""Seconds that an event may lie ahead of the server's clock: callers' clocks are wrong, but not by days."""

LARGEST_RELEASE = 16**12 - 1


class RecordEvent(Stage):
    """Writes a batch of events as one.

    Takes, each ``[B, 1]``, user_id, item_id and timestamp (unix seconds) as int64, event as int32 (a code of
    `Event`), page_release as int64, propensity as float32 and place as int32, and event_id int64 ``[B, 2]``,
    the two big-endian halves of 16 bytes.
    Gives acknowledged int32 ``[B, 1]``, codes of `Acknowledgement`; raises Unavailable where the store is.
    """

    name: ClassVar[str] = "record_event"

    def __init__(self, log: EventLog, *, clock: Callable[[], float] = time.time) -> None:
        self._log = log
        self._clock = clock

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """The stage, whether or not its store can be reached now; options: those of `event_log`."""
        return cls(event_log(options))

    def check(self, inputs: Arrays) -> None:
        for field in ("user_id", "item_id"):
            _require(inputs, field, inputs[field] >= 0, f"an id from 0 to {MAX_ID}")
        codes = ", ".join(f"{event.value} ({event.name.lower()})" for event in Event)
        _require(inputs, "event", np.isin(inputs["event"], list(Event)), codes)
        latest = int(self._clock()) + AHEAD
        times = inputs["timestamp"]
        _require(
            inputs,
            "timestamp",
            (times >= 0) & (times <= latest),
            f"unix seconds from 0 to {latest}, a day ahead",
        )
        releases = inputs["page_release"]
        fits = (releases >= NO_RELEASE) & (releases <= LARGEST_RELEASE)
        _require(inputs, "page_release", fits, f"{NO_RELEASE} (none) or a release's name as a number")
        propensities = inputs["propensity"]
        fits = (propensities >= 0) & (propensities <= 1)
        _require(inputs, "propensity", fits, "a number above 0, up to 1; or 0, which is unknown")
        places = inputs["place"]
        _require(inputs, "place", places >= NO_PLACE, f"a place from 0, or {NO_PLACE} (unknown)")

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        names = ("user_id", "item_id", "event", "timestamp", "page_release", "propensity", "place")
        columns = [inputs[name][:, 0].tolist() for name in names]
        event_ids = inputs["event_id"].astype(">i8")
        events = [
            UserEvent(
                user_id,
                item_id,
                Event(event),
                timestamp,
                event_id.tobytes(),
                None if release == NO_RELEASE else release_from_wire(release),
                None if propensity == NO_PROPENSITY else propensity,
                None if place == NO_PLACE else place,
            )
            for user_id, item_id, event, timestamp, release, propensity, place, event_id in zip(
                *columns, event_ids, strict=True
            )
        ]
        try:
            answers = self._log.record(events)
        except StoreUnavailable as error:
            raise Unavailable(str(error)) from error
        return {"acknowledged": np.array(answers, np.int32).reshape(-1, 1)}


def _require(inputs: Arrays, field: str, fits: Array, allowed: str) -> None:
    """Raise InvalidRequest with the first value of `field` that does not fit."""
    if not fits.all():
        raise InvalidRequest(field, inputs[field][~fits][0].item(), allowed)
