"""The HTTP transport against a real, tiny HTTP server; and that no side is measured that disagrees."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from sides import SideError
from transports import HttpCalls, Page, as_page, one_at_a_time
from turns import Lengths, Turns

from tools.load.generator import Outcome
from tools.load.slo import Slo
from tools.load.visitors import Audience, Visitors

BROKEN, EMPTY = 500, 404
"""Users for whom the server breaks, or has nothing."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/batched":
            query = query["queries"][0]
        page = answer(query["user_id"])
        text = json.dumps([page] if self.path == "/batched" else page).encode()
        self.send_response(500 if query["user_id"] == BROKEN else 200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def answer(user: int) -> dict[str, Any]:
    items = [-1, -1] if user == EMPTY else [user, user + 1]
    return {"item_id": items, "score": [0.5, 0.25], "reason": [1, 1], "status": 0}


def visitors(*users: int) -> Visitors:
    return Visitors(np.array(users), np.full((len(users), 3), -1))


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def outcome(calls: HttpCalls, user: int) -> Outcome:
    calls.expect(visitors(user))
    ended = threading.Event()
    found: list[Outcome] = []
    calls.send(0, lambda each: (found.append(each), ended.set()))
    assert ended.wait(5)
    return found[0]


@pytest.mark.parametrize("path", ["/recommend", "/batched"])
def test_a_page_is_an_answer_whether_the_service_takes_one_or_a_list(url: str, path: str) -> None:
    with HttpCalls(url + path, batched=path == "/batched") as calls:
        assert outcome(calls, 7) == Outcome()
        assert calls.page(0)["item_id"].tolist() == [7, 8]


def test_a_failure_and_a_page_without_items_are_errors_with_a_name(url: str) -> None:
    with HttpCalls(f"{url}/recommend") as calls:
        assert outcome(calls, BROKEN).error == "HTTP 500"
        assert outcome(calls, EMPTY).error == "EMPTY_PAGE"


def test_where_nobody_listens_it_is_an_error() -> None:
    with HttpCalls("http://127.0.0.1:1/recommend") as calls:
        assert outcome(calls, 7).error == "ClientConnectorError"


def test_requests_one_at_a_time_end_at_the_first_failure(url: str) -> None:
    with HttpCalls(f"{url}/recommend") as calls:
        calls.expect(visitors(1, 2, 3))
        assert len(one_at_a_time(calls, 3, 5.0)) == 3
        calls.expect(visitors(1, BROKEN, 3))
        with pytest.raises(RuntimeError, match="HTTP 500"):
            one_at_a_time(calls, 3, 5.0)


class InProcess:
    def pages(self, asked: list[tuple[int, list[int]]], diversity: float) -> list[dict[str, Any]]:
        return [answer(user) for user, _ in asked]


class Answering:
    """A side that gives everybody the page of the next user where it is `wrong`."""

    name, style = "FastAPI, tuned", "tuned"

    def __init__(self, *, wrong: bool) -> None:
        self._wrong = wrong
        self.transport = self

    def expect(self, asked: Visitors) -> None:
        self._users = asked.users

    def page(self, number: int) -> Page:
        return as_page(answer(int(self._users[number]) + self._wrong))


def test_a_side_that_gives_other_pages_is_not_measured() -> None:
    audience = Audience(np.arange(100), np.arange(50))
    slo = Slo.parse("p99=50ms")
    for wrong in (False, True):
        side: Any = Answering(wrong=wrong)
        bound: Any = InProcess()
        turns = Turns([side], bound, audience, 5, slo, Lengths(), print)
        if wrong:
            with pytest.raises(
                SideError, match=r"FastAPI, tuned: user .* gets another item_id than from the"
            ):
                turns.check(side)
        else:
            turns.check(side)
