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


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """An event whose values are allowed, with ids translated, and with the id that its retries share."""

    user: int
    item: int
    event: Event
    timestamp: int
    event_id: bytes
    release: int


def check_event(feedback: Feedback, prefix: str = "", pseudonym_key: bytes | None = None) -> CheckedEvent:
    """`feedback` with ids translated and defaults filled in.

    Raises InvalidRequest where a value is not allowed, `prefix` before the field's name, and MixedReleases
    for a page that several releases made.
    """
    return CheckedEvent(
        _known(check_user(feedback.user, f"{prefix}user", pseudonym_key), feedback.user, f"{prefix}user"),
        _known(check_id(feedback.item, f"{prefix}item"), feedback.item, f"{prefix}item"),
        _event(feedback.event, f"{prefix}event"),
        _timestamp(feedback.timestamp, f"{prefix}timestamp"),
        _event_id(feedback.event_id, f"{prefix}event_id"),
        _release(feedback, prefix),
    )


def check_events(events: Sequence[Feedback], pseudonym_key: bytes | None = None) -> list[CheckedEvent]:
    """Each event checked; an error names the event by its position, as in ``events[3].user``."""
    return [check_event(event, f"events[{place}].", pseudonym_key) for place, event in enumerate(events)]


def check_forgotten(user: int | str, pseudonym_key: bytes | None = None) -> int:
    """The wire id of a user to be forgotten. Raises InvalidRequest where it is not a user's."""
    return _known(check_user(user, "user", pseudonym_key), user, "user")


def stack_events(events: Sequence[CheckedEvent], shape: ModelShape) -> Arrays:
    """The tensors of one inference for `events`.

    Returns user_id, item_id, timestamp (unix seconds) and page_release int64 ``[B, 1]``, event int32
    ``[B, 1]`` and event_id int64 ``[B, 2]``: the big-endian halves of its 16 bytes. Raises InvalidRequest
    for more events than the server takes at once.
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
