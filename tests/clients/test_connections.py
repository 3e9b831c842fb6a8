"""Both clients against plain sockets: servers that are gone, and servers that never answer."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tritonrec_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    Page,
    RecommendError,
    Request,
    Retry,
    Timeout,
    Unavailable,
)

Ask = Callable[..., Page]


@pytest.fixture
def gone() -> Iterator[str]:
    """An address where nobody listens, and nobody else can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def ask_sync(address: str, timeout: Timeout | float, retry: Retry, request: Request) -> Page:
    with Client(address, timeout=timeout, retry=retry) as client:
        return client.recommend(request.user, request.session, diversity=request.diversity)


def ask_async(address: str, timeout: Timeout | float, retry: Retry, request: Request) -> Page:
    async def ask() -> Page:
        async with AsyncClient(address, timeout=timeout, retry=retry) as client:
            return await client.recommend(request.user, request.session, diversity=request.diversity)

    return asyncio.run(ask())


@pytest.fixture(params=[ask_sync, ask_async], ids=["threads", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Page]:
    def ask(
        address: str,
        timeout: Timeout | float = 0.3,
        retry: Retry = Retry(),  # noqa: B008
        request_: Request = Request(),  # noqa: B008
    ) -> Page:
        return request.param(address, timeout, retry, request_)  # type: ignore[no-any-return]

    return ask


def test_a_server_that_is_gone_is_named_after_every_attempt(ask: Ask, gone: str) -> None:
    with pytest.raises(Unavailable, match=rf"at {gone} \(3 attempts, last: .*\); check that Triton runs"):
        ask(gone, 5.0)


def test_attempts_may_be_limited_to_one(ask: Ask, gone: str) -> None:
    with pytest.raises(Unavailable, match="1 attempt,"):
        ask(gone, 5.0, Retry(attempts=1))


def test_a_server_that_never_answers_costs_the_deadline_and_no_more(ask: Ask, silent: str) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.3 s"):
        ask(silent, 0.3)
    assert 0.25 < time.monotonic() - started < 1.5


def test_with_a_limit_per_attempt_the_other_server_is_asked_too(ask: Ask, silent: str, gone: str) -> None:
    with pytest.raises(RecommendError, match="2 attempts"):
        ask(f"{silent},{gone}", Timeout(total=5.0, attempt=0.1), Retry(attempts=2))


def test_a_bad_request_is_refused_without_asking_anybody(ask: Ask, silent: str) -> None:
    started = time.monotonic()
    with pytest.raises(InvalidRequest, match="user: found -2"):
        ask(silent, 5.0, Retry(), Request(user=-2))
    assert time.monotonic() - started < 1.0


def test_a_closed_client_says_so(gone: str) -> None:
    client = Client(gone)
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.recommend()

    async def closed() -> None:
        client = AsyncClient(gone)
        await client.close()
        with pytest.raises(RuntimeError, match="closed"):
            await client.recommend()

    asyncio.run(closed())


def test_no_requests_are_answered_without_a_server(gone: str) -> None:
    with Client(gone) as client:
        assert client.recommend_many([]) == []


def test_one_client_serves_many_threads(silent: str) -> None:
    errors: list[Exception] = []

    def ask() -> None:
        try:
            client.recommend()
        except DeadlineExceeded as error:
            errors.append(error)

    with Client(silent, timeout=0.3) as client:
        threads = [threading.Thread(target=ask) for _ in range(8)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(errors) == 8
    assert time.monotonic() - started < 1.5, "calls must wait beside each other"


def test_cancelling_a_task_cancels_its_call(silent: str) -> None:
    async def cancel() -> float:
        async with AsyncClient(silent, timeout=30.0) as client:
            task = asyncio.create_task(client.recommend())
            await asyncio.sleep(0.1)
            started = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return time.monotonic() - started

    assert asyncio.run(cancel()) < 1.0


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_a_client_refuses_an_address_that_is_none(client: type) -> None:
    with pytest.raises(ValueError, match="'triton' is not host:port"):
        client("triton")
