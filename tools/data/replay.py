"""After a build has filled a store that was being written to: what users did meanwhile, applied again."""

from __future__ import annotations

from collections.abc import Mapping

from python_backend.stores import EventLog

EVENTS_AT_ONCE = 10_000
USERS_AT_ONCE = 500
"""How many users' records are written at once: on LMDB others wait as long as that takes."""


def replay(log: EventLog, after: str = "", *, forgotten: Mapping[int, int] | None = None) -> int:
    """Bring the records of everyone with events behind the position `after` up to date with `log`.

    A build that fills a store replaces records, and so undoes what is recorded between its looking at the
    data and its writing. It takes ``log.end()`` before it looks and replays from there when it has written:
    then nothing is lost, whatever was recorded when, and nothing is there twice. Counters are in the log
    alone, so ``""`` (everything) restores those of users too whose events all came before.

    `forgotten` is what ``log.forgotten()`` gave before the fill: who is forgotten since is freed again of
    what the fill brought back. The number of users whose records were looked at. Raises StoreUnavailable.
    """
    users: set[int] = set()
    while events := log.read(after, EVENTS_AT_ONCE):
        after = events[-1][0]
        users |= {event.user_id for _, event in events}
    since = set()
    if forgotten is not None:
        since = {user_id for user_id, when in log.forgotten().items() if forgotten.get(user_id) != when}
    for some, anew in ((users - since, False), (since, True)):
        ordered = sorted(some)
        for begin in range(0, len(ordered), USERS_AT_ONCE):
            log.reapply(ordered[begin : begin + USERS_AT_ONCE], anew=anew)
    return len(users | since)
