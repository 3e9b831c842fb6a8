"""Senders who insist on an acknowledgement while what they send to is killed, and the count afterwards."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from tritonrec_client.contract import Acknowledgement, Event

from python_backend.stores import EventLog, FeatureStore, UserEvent, UserRecord

Send = Callable[[UserEvent], Acknowledgement]

USERS = 40
BETWEEN_ATTEMPTS = 0.02
"""Seconds before an event that was not acknowledged is sent again."""


def clicks(count: int) -> list[UserEvent]:
    """As many events of 40 users, each with an item and a second of its own."""
    return [
        UserEvent(number % USERS, number, Event.CLICK, number, (number + 1).to_bytes(16, "big"))
        for number in range(count)
    ]


class Senders:
    """Threads that share `events` and send each, with the same id, until it is acknowledged.

    `connect` makes a sender's own way to send; an error of `trouble` means that an event is to be sent again.
    """

    def __init__(
        self,
        events: Sequence[UserEvent],
        connect: Callable[[], AbstractContextManager[Send]],
        trouble: tuple[type[Exception], ...],
        count: int = 8,
        patience: float = 900.0,
    ) -> None:
        self.acknowledged: dict[bytes, Acknowledgement] = {}
        self.failures = 0
        self._connect = connect
        self._trouble = trouble
        self._end = time.monotonic() + patience
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(events[place::count],), daemon=True)
            for place in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        """Until so many events were acknowledged."""
        while len(self.acknowledged) < count and not self._errors:
            assert any(thread.is_alive() for thread in self._threads)
            time.sleep(0.002)
        assert self._errors == []

    def finish(self) -> None:
        """Until all events were acknowledged."""
        for thread in self._threads:
            thread.join()
        assert self._errors == []

    def _run(self, events: Sequence[UserEvent]) -> None:
        try:
            with ExitStack() as stack:
                send = stack.enter_context(self._connect())
                for event in events:
                    self._insist(send, event)
        except BaseException as error:
            self._errors.append(error)

    def _insist(self, send: Send, event: UserEvent) -> None:
        while True:
            try:
                self.acknowledged[event.event_id] = send(event)
                return
            except self._trouble:
                self.failures += 1
                if time.monotonic() > self._end:
                    raise
                time.sleep(BETWEEN_ATTEMPTS)


@dataclass(frozen=True)
class Count:
    """What became of acknowledged events."""

    acknowledged: int
    written_before_the_answer_was_lost: int
    lost: int
    doubled: int

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged ({self.written_before_the_answer_was_lost} of them had been"
            f" written when the answer was lost), {self.lost} lost, {self.doubled} doubled"
        )


def count(
    events: Sequence[UserEvent],
    acknowledged: dict[bytes, Acknowledgement],
    log: EventLog,
    store: FeatureStore,
) -> Count:
    """Look for each acknowledged event in the log and in its user's record."""
    logged: list[UserEvent] = []
    position = ""
    while some := log.read(position):
        logged += [event for _, event in some]
        position = some[-1][0]
    users = list({event.user_id for event in events})
    records = {
        user_id: record
        for user_id, record in zip(users, store.get_many(users), strict=True)
        if isinstance(record, UserRecord)
    }
    in_log = Counter(logged)
    in_records = Counter(
        (user_id, item) for user_id, record in records.items() for item in record.items.tolist()
    )
    counted = {user_id: sum(record.counters.values()) for user_id, record in records.items()}
    places = [
        (in_log[event], in_records[event.user_id, event.item_id])
        for event in events
        if event.event_id in acknowledged
    ]
    per_user = Counter(event.user_id for event in events if event.event_id in acknowledged)
    return Count(
        acknowledged=len(places),
        written_before_the_answer_was_lost=list(acknowledged.values()).count(Acknowledgement.KNOWN),
        lost=sum(0 in found for found in places)
        + sum(max(0, sent - counted.get(user_id, 0)) for user_id, sent in per_user.items()),
        doubled=sum(max(found) > 1 for found in places)
        + sum(max(0, counted[user_id] - per_user[user_id]) for user_id in counted),
    )
