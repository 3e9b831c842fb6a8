"""The clients against a running server: what people get who follow the README."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import pytest
from tritonclient.grpc import InferenceServerClient
from tritonrec_client import (
    AsyncClient,
    Client,
    InvalidRequest,
    Page,
    Reason,
    Request,
    Retry,
    ServerError,
    Sizes,
    Status,
    Timeout,
)
from tritonrec_client.cli import main
from tritonrec_client.request import Checked

pytestmark = pytest.mark.server

NOBODY = "a user whom no data set knows"
SOME_TIME = Timeout(total=20.0)
"""Generous, because the machine that runs the tests may be busy: no test here is about speed."""


class Server(Protocol):
    """What these tests use of the `server` fixture."""

    grpc_address: str
    release: str
    sizes: Sizes
    known_users: list[int]


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.grpc_address, timeout=SOME_TIME) as client:
        yield client


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


def assert_same(one: Page, other: Page) -> None:
    """The same items for the same reasons; scores may differ by rounding."""
    assert [place.item_id for place in one.items] == [place.item_id for place in other.items]
    assert [place.reason for place in one.items] == [place.reason for place in other.items]
    scores = [place.score for place in other.items]
    assert [place.score for place in one.items] == pytest.approx(scores, abs=1e-5)
    assert (one.status, one.releases) == (other.status, other.releases)


def test_a_known_user_gets_a_personal_page_of_the_served_release(client: Client, server: Server) -> None:
    page = client.recommend(server.known_users[0])
    items = [place.item_id for place in page.items]
    assert 0 < len(items) <= server.sizes.results
    assert len(items) == server.sizes.results or Status.SHORT_PAGE in page.status
    assert len(set(items)) == len(items)
    assert min(items) >= 0
    assert not page.status & (Status.UNKNOWN_USER | Status.ANONYMOUS_USER | Status.STORE_UNAVAILABLE)
    assert page.release == server.release


def test_without_diversity_the_scores_descend(client: Client, server: Server) -> None:
    scores = [place.score for place in client.recommend(server.known_users[0], diversity=0).items]
    assert scores == sorted(scores, reverse=True)


def test_a_count_gives_the_head_of_the_page(client: Client, server: Server) -> None:
    page = client.recommend(server.known_users[0])
    assert client.recommend(server.known_users[0], count=3).items == page.items[:3]


def test_nobody_in_particular_gets_a_page_too(client: Client) -> None:
    page = client.recommend()
    assert Status.ANONYMOUS_USER in page.status
    assert page.items
    assert Reason.HISTORY not in {place.reason for place in page.items}


@pytest.mark.parametrize("user", [2**63 - 1, NOBODY])
def test_an_unknown_user_is_no_error_but_a_status(client: Client, user: int | str) -> None:
    page = client.recommend(user)
    assert Status.UNKNOWN_USER in page.status
    assert page.items


@pytest.mark.parametrize("item", [2**63 - 1, "an item that no release knows"])
def test_an_unknown_session_item_is_no_error_but_a_status(client: Client, item: int | str) -> None:
    page = client.recommend(session=[item])
    assert Status.UNKNOWN_SESSION_ITEM in page.status
    assert page.items


def test_items_of_the_session_are_known_and_do_not_come_back(client: Client) -> None:
    session = [place.item_id for place in client.recommend().items[:3]]
    page = client.recommend(session=session)
    assert Status.UNKNOWN_SESSION_ITEM not in page.status
    assert not set(session) & {place.item_id for place in page.items}


def requests_of(server: Server) -> list[Request]:
    """Every kind of request beside each other."""
    first, second = server.known_users[:2]
    item = 2**62
    return [
        Request(first),
        Request(),
        Request(second, diversity=0.0),
        Request(NOBODY, session=[item]),
        Request(first, count=2, diversity=1.0),
    ]


def one_by_one(client: Client, requests: Sequence[Request]) -> list[Page]:
    return [client.recommend(r.user, r.session, diversity=r.diversity, count=r.count) for r in requests]


def test_many_requests_get_what_each_gets_alone(client: Client, server: Server) -> None:
    requests = requests_of(server)
    for together, alone in zip(client.recommend_many(requests), one_by_one(client, requests), strict=True):
        assert_same(together, alone)


def test_many_requests_are_one_inference(client: Client, server: Server) -> None:
    client.connect()

    def inferences() -> int:
        with InferenceServerClient(server.grpc_address) as statistics:
            (model,) = statistics.get_inference_statistics("recommend").model_stats
        return int(model.inference_stats.success.count)

    before = inferences()
    client.recommend_many(requests_of(server))
    assert inferences() == before + 1


def test_more_requests_than_the_server_batches_are_refused_with_its_limit(client: Client) -> None:
    with pytest.raises(
        InvalidRequest, match=r"requests: found 100000 of them; allowed is 1 to \d+ in one call"
    ):
        client.recommend_many([Request()] * 100_000)


def test_asyncio_gets_what_threads_get(client: Client, server: Server) -> None:
    requests = requests_of(server)

    async def ask() -> tuple[list[Page], list[Page]]:
        async with AsyncClient(server.grpc_address, timeout=SOME_TIME) as asynchronous:
            await asynchronous.connect()
            single = await asyncio.gather(
                *(
                    asynchronous.recommend(r.user, r.session, diversity=r.diversity, count=r.count)
                    for r in requests * 8
                )
            )
            return single, await asynchronous.recommend_many(requests)

    single, together = asyncio.run(ask())
    expected = one_by_one(client, requests)
    for place, page in enumerate(single):
        assert_same(page, expected[place % len(expected)])
    for page, other in zip(together, expected, strict=True):
        assert_same(page, other)


def test_threads_share_a_client(client: Client, server: Server) -> None:
    requests = requests_of(server)
    expected = one_by_one(client, requests)
    with ThreadPoolExecutor(8) as pool:
        for pages in pool.map(lambda _: one_by_one(client, requests), range(16)):
            for page, other in zip(pages, expected, strict=True):
                assert_same(page, other)


def test_calls_go_around_a_server_that_is_gone(server: Server, gone: str) -> None:
    with Client([gone, server.grpc_address], timeout=SOME_TIME, retry=Retry(attempts=2)) as client:
        for _ in range(6):
            assert client.recommend().items

    async def ask() -> list[Page]:
        addresses = f"{gone},{server.grpc_address}"
        async with AsyncClient(addresses, timeout=SOME_TIME, retry=Retry(attempts=2)) as client:
            return await asyncio.gather(*(client.recommend() for _ in range(6)))

    assert all(page.items for page in asyncio.run(ask()))


def test_calls_go_around_a_server_that_hangs(server: Server, silent: str) -> None:
    timeout = Timeout(total=20.0, attempt=5.0)
    addresses = [silent, server.grpc_address]
    with Client(addresses, timeout=timeout, retry=Retry(attempts=2, set_aside=60.0)) as client:
        # A shorter limit for the first call, which meets the silent server.
        assert client.recommend(timeout=Timeout(total=20.0, attempt=2.0)).items
        for _ in range(4):
            assert client.recommend().items


BAD: list[tuple[dict[str, Any], str]] = [
    ({"user": -2}, "user: found -2; allowed is an integer from -1"),
    ({"user": 2**63}, "user: found 9223372036854775808; allowed is an integer from -1"),
    ({"user": 1.5}, "user: found 1.5"),
    ({"session": [4, -9]}, "session[1]: found -9"),
    ({"session": "sku"}, "session: found 'sku'; allowed is a sequence"),
    ({"diversity": float("nan")}, "diversity: found nan; allowed is a number from 0"),
    ({"diversity": 1.5}, "diversity: found 1.5; allowed is a number from 0"),
    ({"count": 0}, "count: found 0; allowed is an integer from 1 to"),
    ({"count": 10_000}, "count: found 10000; allowed is an integer from 1 to"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_request_is_refused_by_name_and_the_next_one_is_answered(
    client: Client, server: Server, arguments: dict[str, Any], message: str
) -> None:
    before = client.recommend(server.known_users[0])
    with pytest.raises(InvalidRequest) as error:
        client.recommend(**arguments)
    assert str(error.value).startswith(message)
    assert_same(client.recommend(server.known_users[0]), before)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Checked(-5, (), 0.5, None), "user_id"),
        (Checked(1, (-5,), 0.5, None), "session_items"),
        (Checked(1, (), float("nan"), None), "diversity"),
        (Checked(1, (), 1.5, None), "diversity"),
    ],
    ids=str,
)
def test_what_slips_past_the_client_is_refused_by_the_server_by_name(
    client: Client, request_: Checked, field: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        client._carry_out(client._exchange.recommend([request_], None))
    assert error.value.field == field


def test_a_model_that_is_not_served_is_named(server: Server) -> None:
    with (
        Client(server.grpc_address, model="no_such_model", timeout=SOME_TIME) as client,
        pytest.raises(ServerError, match="no_such_model"),
    ):
        client.recommend()


def test_the_release_s_own_ensemble_may_be_asked_by_name(client: Client, server: Server) -> None:
    name = f"recommend_{server.release}"
    with Client(server.grpc_address, model=name, timeout=SOME_TIME) as direct:
        assert_same(direct.recommend(server.known_users[0]), client.recommend(server.known_users[0]))


def test_the_command_line_prints_a_page(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    user = str(server.known_users[0])
    assert main(["recommend", "--user", user, "--count", "3", "--address", server.grpc_address]) == 0
    header, *rows, footer = capsys.readouterr().out.splitlines()
    assert header.split() == ["#", "item", "score", "reason"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert f"release: {server.release}" in footer


def test_the_command_line_prints_json(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--session", "1,2", "--session-key", "x", "--diversity", "0", "--timeout", "20", "--json"]
    assert main(["recommend", *arguments, "--address", server.grpc_address]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["release"] == server.release
    assert "ANONYMOUS_USER" in content["status"]
    assert "UNKNOWN_SESSION_ITEM" in content["status"]
    assert content["items"][0]["rank"] == 1


def test_health_passes_only_where_every_address_recommends(
    server: Server, gone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", "--timeout", "20", "--address", server.grpc_address]) == 0
    assert capsys.readouterr().out.startswith(f"ok      {server.grpc_address}")
    assert main(["health", "--timeout", "20", "--address", f"{server.grpc_address},{gone}"]) == 1
    assert f"FAILED  {gone}" in capsys.readouterr().out
