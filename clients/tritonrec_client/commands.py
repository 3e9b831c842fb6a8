"""What the command line does: one function for each command, from its options to its exit status."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any
from uuid import uuid4

from tritonrec_client.contract import Acknowledgement
from tritonrec_client.errors import InvalidRequest, RecommendError
from tritonrec_client.feedback import Feedback, check_event, check_forgotten
from tritonrec_client.options import Retry
from tritonrec_client.request import Request, check

OK, SERVER_TROUBLE, BAD_USAGE = 0, 1, 2

ACKNOWLEDGEMENT_WORDS: dict[Acknowledgement, str] = {
    Acknowledgement.RECORDED: "recorded",
    Acknowledgement.KNOWN: "known: this event was recorded before, nothing was changed",
}


def recommend(options: argparse.Namespace) -> int:
    """Ask for one page and print it."""
    from tritonrec_client.client import Client
    from tritonrec_client.table import format_page, page_to_json

    user = _id(options, "user")
    session = [*options.session, *options.session_key]
    check(Request(user, session, options.diversity))  # before anything is sent
    with Client(
        options.address,
        timeout=options.timeout,
        model=options.model,
        experiment=options.experiment,
        pseudonym_key=options.pseudonym_key,
    ) as client:
        client.connect()  # so that the latency is a call's, not that of connecting
        started = time.perf_counter()
        page = client.recommend(user, session, diversity=options.diversity, count=options.count)
        latency = time.perf_counter() - started
    if options.json:
        print(json.dumps(page_to_json(page, options.items, latency=latency), ensure_ascii=False))
    else:
        print(format_page(page, options.items, latency=latency))
    return OK


def health(options: argparse.Namespace) -> int:
    """Ask each address for an anonymous user's page; 0 where each gives one, made by one release.

    A recommendation is asked for because neither of Triton's readiness endpoints looks at every stage.
    """
    from tritonrec_client.client import Client
    from tritonrec_client.table import describe_release, describe_status

    results = []
    for address in options.address:
        result = {"address": address, "healthy": False, "words": "", "release": None, "latency_ms": None}
        results.append(result)
        retry = Retry(attempts=1)
        with Client(address, timeout=options.timeout, retry=retry, model=options.model) as client:
            try:
                client.connect()
                started = time.perf_counter()
                page = client.recommend()
            except RecommendError as error:
                result["words"] = str(error)
                continue
            result["latency_ms"] = round((time.perf_counter() - started) * 1000, 3)
        result["healthy"] = bool(page.items) and page.is_consistent
        result["release"] = describe_release(page)
        result["words"] = f"{len(page.items)} items, {describe_status(page.status)}"
    if options.json:
        print(json.dumps(results))
    else:
        for result in results:
            print(_health_line(result))
    return OK if all(result["healthy"] for result in results) else SERVER_TROUBLE


def record(options: argparse.Namespace) -> int:
    """Record one event and say what became of it."""
    from tritonrec_client.client import Client

    # Drawn here, so that it can be said and the event be sent again.
    event_id = str(uuid4()) if options.event_id is None else options.event_id
    feedback = Feedback(
        _id(options, "user"),
        _id(options, "item"),
        options.event,
        options.timestamp,
        event_id,
        release=options.release,
        propensity=options.propensity,
        place=options.place,
    )
    check_event(feedback)  # before anything is sent
    with Client(options.address, timeout=options.timeout, pseudonym_key=options.pseudonym_key) as client:
        try:
            (acknowledgement,) = client.record_events([feedback])
        except InvalidRequest:
            raise
        except RecommendError:
            print(f"tritonrec: to send the same event again: --event-id {event_id}", file=sys.stderr)
            raise
    if options.json:
        print(json.dumps({"acknowledged": acknowledgement.name, "event_id": event_id}))
    else:
        print(f"{ACKNOWLEDGEMENT_WORDS[acknowledgement]} · event id: {event_id}")
    return OK


def forget(options: argparse.Namespace) -> int:
    """Forget one user and say whether there was anything to forget."""
    from tritonrec_client.client import Client

    user = _id(options, "user")
    check_forgotten(user)  # before anything is sent
    if not options.yes:
        print(
            f"tritonrec: forget removes the record and all logged events of user {user!r} for good; "
            "repeat the command with --yes to do so",
            file=sys.stderr,
        )
        return BAD_USAGE
    with Client(options.address, timeout=options.timeout, pseudonym_key=options.pseudonym_key) as client:
        forgotten = client.forget_user(user)
    if options.json:
        print(json.dumps({"forgotten": forgotten}))
    else:
        print("forgotten" if forgotten else "nothing is known of this user")
    return OK


def _id(options: argparse.Namespace, name: str) -> Any:
    """The integer id or the string id that was given; None for neither."""
    key = getattr(options, f"{name}_key")
    return getattr(options, name) if key is None else key


def _health_line(result: dict[str, object]) -> str:
    state = "ok    " if result["healthy"] else "FAILED"
    line = f"{state}  {result['address']}  {result['words']}"
    if result["release"] is not None:
        line += f" · release: {result['release']} · {result['latency_ms']:.1f} ms"
    return line
