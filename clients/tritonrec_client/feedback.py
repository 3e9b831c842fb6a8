"""Feedback: what a user did, checked and stacked into the tensors that travel, and what became of it."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from uuid import UUID

import numpy as np

from tritonrec_client import contract
from tritonrec_client.contract import Acknowledgement, Event
from tritonrec_client.errors import InvalidRequest
from tritonrec_client.page import Page
from tritonrec_client.request import Arrays, ModelShape, check_id, check_user

LARGEST_LEAD = 24 * 60 * 60
"""Seconds that an event may lie ahead of this machine's clock."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Feedback:
    """One event.

    The fields mean what the arguments of `Client.record_event` mean.
    """

    user: int | str
    item: int | str
    event: Event | str
    timestamp: float | None = None
    event_id: bytes | UUID | str | None = None
    page: Page | None = None
    release: str | None = None
    propensity: float | None = None
    place: int | None = None


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """An event whose values are allowed, with ids translated, and with the id that its retries share."""

    user: int
    item: int
    event: Event
    timestamp: int
    event_id: bytes
    release: int
    propensity: float = contract.NO_PROPENSITY
    place: int = contract.NO_PLACE


def check_event(feedback: Feedback, prefix: str = "", pseudonym_key: bytes | None = None) -> CheckedEvent:
    """`feedback` with ids translated and defaults filled in.

    Raises InvalidRequest where a value is not allowed, `prefix` before the field's name, and MixedReleases
    for a page that several releases made.
    """
    item = _known(check_id(feedback.item, f"{prefix}item"), feedback.item, f"{prefix}item")
    release = _release(feedback, prefix)
    place, propensity = _shown(feedback.page, item)
    if feedback.place is not None:
        place = _place(feedback.place, f"{prefix}place")
    if feedback.propensity is not None:
        propensity = _propensity(feedback.propensity, f"{prefix}propensity")
    return CheckedEvent(
        _known(check_user(feedback.user, f"{prefix}user", pseudonym_key), feedback.user, f"{prefix}user"),
        item,
        _event(feedback.event, f"{prefix}event"),
        _timestamp(feedback.timestamp, f"{prefix}timestamp"),
        _event_id(feedback.event_id, f"{prefix}event_id"),
        release,
        propensity,
        place,
    )


def check_events(events: Sequence[Feedback], pseudonym_key: bytes | None = None) -> list[CheckedEvent]:
    """Each event checked; an error names the event by its position, as in ``events[3].user``."""
    return [check_event(event, f"events[{place}].", pseudonym_key) for place, event in enumerate(events)]


def views_of(
    user: int | str, page: Page, timestamp: float | None = None, page_id: str | None = None
) -> list[Feedback]:
    """That `user` was shown all of `page`: a view of each of its items; see `Client.record_page`."""
    if page_id is not None and not (isinstance(page_id, str) and page_id):
        raise InvalidRequest("page_id", repr(page_id), "a string of at least one character")
    return [
        Feedback(
            user,
            shown.item_id,
            Event.VIEW,
            timestamp,
            None if page_id is None else f"{page_id}:{place}",
            page,
        )
        for place, shown in enumerate(page.items)
    ]


def check_forgotten(user: int | str, pseudonym_key: bytes | None = None) -> int:
    """The wire id of a user to be forgotten. Raises InvalidRequest where it is not a user's."""
    return _known(check_user(user, "user", pseudonym_key), user, "user")


def stack_events(events: Sequence[CheckedEvent], shape: ModelShape) -> Arrays:
    """The tensors of one inference for `events`.

    Returns user_id, item_id, timestamp (unix seconds) and page_release int64 ``[B, 1]``, event and place
    int32 ``[B, 1]``, propensity float32 ``[B, 1]`` and event_id int64 ``[B, 2]``: the big-endian halves of
    its 16 bytes. Raises InvalidRequest for more events than the server takes at once.
    """
    if len(events) > shape.max_batch:
        raise InvalidRequest(
            "events", f"{len(events)} of them", f"1 to {shape.max_batch} in one call to this server"
        )
    event_ids = np.frombuffer(b"".join(event.event_id for event in events), ">i8").reshape(-1, 2)
    return {
        contract.USER_ID.name: np.array([[event.user] for event in events], np.int64),
        contract.EVENT_ITEM_ID.name: np.array([[event.item] for event in events], np.int64),
        contract.EVENT.name: np.array([[event.event] for event in events], np.int32),
        contract.TIMESTAMP.name: np.array([[event.timestamp] for event in events], np.int64),
        contract.EVENT_ID.name: event_ids.astype(np.int64),
        contract.PAGE_RELEASE.name: np.array([[event.release] for event in events], np.int64),
        contract.EVENT_PROPENSITY.name: np.array([[event.propensity] for event in events], np.float32),
        contract.PLACE.name: np.array([[event.place] for event in events], np.int32),
    }


def stack_user(user: int, shape: ModelShape) -> Arrays:
    """The tensors for one user: user_id int64 ``[1, 1]``."""
    return {contract.USER_ID.name: np.array([[user]], np.int64)}


def decode_acknowledgements(outputs: Arrays) -> list[Acknowledgement]:
    """What became of each event, in order."""
    return [Acknowledgement(code) for code in outputs[contract.ACKNOWLEDGED.name].ravel().tolist()]


def decode_forgotten(outputs: Arrays) -> bool:
    """Whether there was something to forget."""
    return bool(outputs[contract.FORGOTTEN.name].item())


def _known(wire_id: int, value: object, field: str) -> int:
    if wire_id < 0:
        allowed = "an integer from 0 to 2**63 - 1, or a string of at least one character"
        raise InvalidRequest(field, repr(value), allowed)
    return wire_id


def _event(value: Event | str, field: str) -> Event:
    if isinstance(value, Event):
        return value
    if isinstance(value, str) and value.upper() in Event.__members__:
        return Event[value.upper()]
    names = [event.name.lower() for event in Event]
    raise InvalidRequest(field, repr(value), f"{', '.join(names[:-1])} or {names[-1]}")


def _timestamp(value: float | None, field: str) -> int:
    now = int(time.time())
    if value is None:
        return now
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and 0 <= (seconds := int(value)) <= now + LARGEST_LEAD:
        return seconds
    allowed = "unix time in seconds (not milliseconds), from 0 to a day from now"
    raise InvalidRequest(field, repr(value), allowed)


def _event_id(value: bytes | UUID | str | None, field: str) -> bytes:
    """16 bytes. Text that is a UUID's is that UUID, since one that went through JSON is the same event."""
    if value is None:
        return secrets.token_bytes(16)
    if isinstance(value, str) and _UUID.fullmatch(value):
        value = UUID(value)
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, bytes | bytearray) and len(value) == 16:
        return bytes(value)
    if isinstance(value, str) and value:
        return blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    found = f"{len(value)} bytes" if isinstance(value, bytes | bytearray) else repr(value)
    raise InvalidRequest(field, found, "16 bytes, a uuid.UUID, or a string of at least one character")


def _shown(page: Page | None, item: int) -> tuple[int, float]:
    """Where the item with the wire id `item` stands on `page`, and its propensity there."""
    for place, shown in enumerate(page.items if page is not None else ()):
        if shown.item_id == item:
            return place, shown.propensity
    return contract.NO_PLACE, contract.NO_PROPENSITY


def _place(value: int, field: str) -> int:
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= value < 2**31:
        return int(value)
    raise InvalidRequest(field, repr(value), "a place on the page, an integer; the first is 0")


def _propensity(value: float, field: str) -> float:
    if isinstance(value, int | float | np.number) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    raise InvalidRequest(field, repr(value), "a number above 0, up to 1: what the page says")


def _release(feedback: Feedback, prefix: str) -> int:
    page, release = feedback.page, feedback.release
    if page is not None and release is not None:
        raise InvalidRequest(
            f"{prefix}page", "a page beside a release", "one of them: a page has its release"
        )
    if page is not None:
        if not isinstance(page, Page):
            raise InvalidRequest(f"{prefix}page", repr(page), "a Page, or None")
        release = page.release
    if release is None:
        return contract.NO_RELEASE
    try:
        return contract.release_to_wire(release)
    except (TypeError, ValueError):
        raise InvalidRequest(
            f"{prefix}release", repr(release), "a release's name: 12 hexadecimal digits"
        ) from None
