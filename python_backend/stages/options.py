"""What stages read from the string parameters of their config.pbtxt."""

from __future__ import annotations

from collections.abc import Mapping

from python_backend.stores import EventLog, open_event_log

WRITE_TIMEOUT_MS = 1000.0
HISTORY_LIMIT = 4096


def milliseconds(options: Mapping[str, str], name: str, default: float) -> float:
    """The option `name`, in seconds. Raises ValueError where it is no time."""
    text = options.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ValueError(f"option {name} is {text!r}; it must be a number of milliseconds above 0")
    return value / 1000


def event_log(options: Mapping[str, str]) -> EventLog:
    """The event log for a stage that writes.

    Options: ``store_url`` (required), ``write_timeout_ms`` (1000), ``require_durable`` (true; or false),
    ``history_limit`` (4096: how many of its user's newest events a record keeps). Raises ValueError on one
    that cannot be used.
    """
    if not options.get("store_url"):
        raise ValueError("option store_url is missing; for example lmdb:///path/to/store")
    durable = options.get("require_durable", "true")
    if durable not in ("true", "false"):
        raise ValueError(f"option require_durable is {durable!r}; it must be true or false")
    limit = options.get("history_limit", str(HISTORY_LIMIT))
    if not (limit.isascii() and limit.isdigit() and int(limit) > 0):
        raise ValueError(f"option history_limit is {limit!r}; it must be an integer of at least 1")
    return open_event_log(
        options["store_url"],
        timeout=milliseconds(options, "write_timeout_ms", WRITE_TIMEOUT_MS),
        require_durable=durable == "true",
        history_limit=int(limit),
    )
