"""How the generator asks each side: equally light asynchronous calls, one transport per side.

Triton gets `tools.load.calls.Calls`, which the load test uses, too: protobuf messages as gRPC futures. The
peers speak HTTP with JSON, asked with aiohttp on an event loop in a thread: well kept, parsed in C, and
already in the product's environment, because tritonclient uses it. Both hand a request to another thread and
check the answer there, and both cost about 0.5 ms of CPU per request at 600 requests/s on a core of 2.6 GHz.
(Bare sockets were tried and cost 0.25 ms, but nothing for gRPC is that light, and the difference would count
as the server's.) What the generator really cost stands beside every figure.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
import numpy as np
import tritonclient.grpc as grpcclient
from numpy.typing import NDArray
from tritonrec_client.contract import DEFAULT_DIVERSITY, PADDING_ID, RECOMMEND

from tools.evaluation.served import infer
from tools.load.calls import Calls
from tools.load.generator import Done, Outcome
from tools.load.visitors import Visitors

TIMEOUT = 5.0
"""Seconds; far above the objective, so that no side gains by giving up."""
IDLE = 2.0
"""Seconds after which an unused connection is not used again: uvicorn closes those that are idle for five."""
HEADERS = {"content-type": "application/json"}
FIELDS = ("item_id", "score", "reason", "status")

Page = dict[str, NDArray[Any]]
"""One answer: item_id int64 ``[N]``, score float32 ``[N]``, reason int32 ``[N]``, status int32 ``[1]``."""


class Peer(Protocol):
    """A transport of the generator that can also show an answer."""

    session: int
    """The least width of a visitor's session that it takes."""

    def expect(self, visitors: Visitors) -> None:
        """The visitors whose numbers the other methods get."""

    def send(self, number: int, done: Done) -> None:
        """Ask for the page of visitor `number`; `done` is called when it ends, from any thread."""

    def page(self, number: int) -> Page:
        """The page of visitor `number`, awaited."""

    def close(self) -> None:
        """Close the connections."""


class TritonCalls(Calls):
    """The load test's own calls of `release`, which also show an answer."""

    def __init__(self, address: str, release: str) -> None:
        super().__init__(address, timeout=TIMEOUT)
        self._release = release
        self._asked: Visitors | None = None

    def expect(self, visitors: Visitors) -> None:
        super().expect(visitors)
        self._asked = visitors

    def page(self, number: int) -> Page:
        assert self._asked is not None, "expect() comes first"
        inputs = {
            "user_id": self._asked.users[number, None, None],
            "session_items": self._asked.sessions[number, None],
            "diversity": np.full((1, 1), DEFAULT_DIVERSITY, np.float32),
        }
        with grpcclient.InferenceServerClient(self.address) as client:
            answer = infer(client, RECOMMEND.name, self._release, inputs)
        return {name: answer[name][0] for name in FIELDS}


class HttpCalls:
    """JSON over HTTP/1.1, connections kept open. `batched` services take and give lists of one element."""

    session = 1

    def __init__(self, url: str, *, batched: bool = False) -> None:
        self._url = url
        self._batched = batched
        self._visitors: Visitors | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._session = asyncio.run_coroutine_threadsafe(_open(), self._loop).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._session.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def expect(self, visitors: Visitors) -> None:
        self._visitors = visitors

    def send(self, number: int, done: Done) -> None:
        self._loop.call_soon_threadsafe(self._begin, number, done)

    def page(self, number: int) -> Page:
        return as_page(asyncio.run_coroutine_threadsafe(self._ask(number), self._loop).result())

    def _begin(self, number: int, done: Done) -> None:
        task = self._loop.create_task(self._ask(number))
        task.add_done_callback(lambda ended: done(_outcome(ended)))

    async def _ask(self, number: int) -> dict[str, Any]:
        assert self._visitors is not None, "expect() comes first"
        body = encode(int(self._visitors.users[number]), self._visitors.sessions[number], self._batched)
        async with self._session.post(self._url, data=body, headers=HEADERS) as response:
            text = await response.read()
            if response.status != 200:
                raise HttpError(f"HTTP {response.status}", text.decode(errors="replace")[:500])
        answer = json.loads(text)
        return answer[0] if self._batched else answer


class HttpError(RuntimeError):
    """A peer answered something else than a page: the kind of error, and its words."""


def encode(user: int, session: NDArray[np.int64], batched: bool) -> bytes:
    """The JSON that asks for one page; the session without its padding."""
    items = [item for item in session.tolist() if item != PADDING_ID]
    query = {"user_id": user, "session_items": items, "diversity": DEFAULT_DIVERSITY}
    return json.dumps({"queries": [query]} if batched else query).encode()


def as_page(answer: dict[str, Any]) -> Page:
    """A JSON answer as the arrays that Triton gives."""
    return {
        "item_id": np.array(answer["item_id"], np.int64),
        "score": np.array(answer["score"], np.float32),
        "reason": np.array(answer["reason"], np.int32),
        "status": np.array([answer["status"]], np.int32),
    }


def one_at_a_time(transport: Peer, count: int, seconds: float) -> list[float]:
    """Milliseconds of up to `count` requests in up to `seconds`, each sent when the one before is answered.

    Raises RuntimeError on a request that fails.
    """
    milliseconds: list[float] = []
    ended = threading.Event()
    outcomes: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        ended.set()

    end = time.perf_counter() + seconds
    for number in range(count):
        begin = time.perf_counter()
        if begin > end:
            break
        transport.send(number, done)
        if not ended.wait(2 * TIMEOUT):
            raise RuntimeError(f"a request was not answered within {2 * TIMEOUT:.0f} s")
        milliseconds.append((time.perf_counter() - begin) * 1000)
        ended.clear()
        if (outcome := outcomes.pop()).error is not None:
            raise RuntimeError(f"{outcome.error}: {outcome.words}")
    return milliseconds


async def _open() -> aiohttp.ClientSession:
    # No limit on connections: the generator limits what is under way. aiohttp takes idle ones in turn, so
    # workers that each hold some of them get equal shares.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
    )


def _outcome(task: asyncio.Task[dict[str, Any]]) -> Outcome:
    error = task.exception()
    if error is None:
        items = task.result().get("item_id", ())
        return Outcome() if any(item != PADDING_ID for item in items) else Outcome("EMPTY_PAGE")
    if isinstance(error, HttpError):
        return Outcome(*error.args)
    return Outcome(type(error).__name__, str(error))


def differences(one: Page, other: Page, tolerance: float = 1e-5) -> list[str]:
    """The fields in which two answers differ; scores may by `tolerance`, for other builds of one library."""
    wrong = [name for name in ("item_id", "reason", "status") if not np.array_equal(one[name], other[name])]
    same = one["score"].shape == other["score"].shape
    if not same or not np.allclose(one["score"], other["score"], rtol=tolerance, atol=tolerance):
        wrong.append("score")
    return wrong
