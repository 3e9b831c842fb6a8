"""What people do who follow the client's README: feedback, pseudonyms and experiments on a real server."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tiny import Build
from tritonrec_client import (
    Acknowledgement,
    Arm,
    AsyncClient,
    Client,
    Event,
    Experiment,
    Feedback,
    InvalidRequest,
    Page,
    Request,
    Status,
    Timeout,
    pseudonym,
)
from tritonrec_client.cli import main
from tritonrec_client.experiment import arm_model
from tritonrec_client.feedback import CheckedEvent

from python_backend.stores import UserEvent, open_event_log
from tools.serving.repository import write_served_repository
from tools.serving.server import TritonServer

pytestmark = pytest.mark.server

SOME_TIME = Timeout(total=20.0)
"""Generous, because the machine that runs the tests may be busy: no test here is about speed."""
KEY = bytes(range(32))
EXPERIMENT = Experiment("tiny", (Arm("control", "0" * 12, 0.5), Arm("challenger-2", "1" * 12, 0.5)))
"""Both arms are served by the tiny release, the only one that there is."""


@dataclass(frozen=True)
class Shop:
    """A server that may be written to, because its store is a copy."""

    triton: TritonServer
    build: Build
    store_url: str

    @property
    def address(self) -> str:
        return self.triton.address

    def events_of(self, user: int) -> list[UserEvent]:
        """What the log holds of `user`, oldest first."""
        with open_event_log(self.store_url) as log:
            return [event for _, event in log.read() if event.user_id == user]


@pytest.fixture(scope="module")
def shop(tiny_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("feedback")
    shutil.copytree(Path(tiny_build.config.store.url.removeprefix("lmdb://")), folder / "store")
    store_url = f"lmdb://{folder}/store"
    release = tiny_build.release
    write_served_repository(
        [release.path],
        release.name,
        folder / "served",
        overrides={"store_url": store_url},
        arms={arm.name: release.name for arm in EXPERIMENT.arms},
    )
    log, backends = folder / "triton.log", tiny_build.output / "backends"
    with TritonServer(folder / "served", log=log, backends=backends) as triton:
        yield Shop(triton, tiny_build, store_url)


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    with Client(shop.address, timeout=SOME_TIME) as client:
        yield client


@pytest.fixture
def stranger() -> int:
    """A user whom nobody has met."""
    return uuid4().int >> 66


def items_of(page: Page) -> list[int]:
    return [place.item_id for place in page.items]


def test_the_very_next_page_knows_what_was_clicked(client: Client, shop: Shop) -> None:
    for user in shop.build.known_users[2:12]:
        page = client.recommend(user)
        clicked = items_of(page)[0]
        assert client.record_event(user, clicked, "click", page=page) is Acknowledgement.RECORDED
        assert clicked not in items_of(client.recommend(user))


def test_a_stranger_is_known_after_one_click(client: Client, stranger: int) -> None:
    page = client.recommend(stranger)
    assert Status.UNKNOWN_USER in page.status
    client.record_event(stranger, items_of(page)[0], Event.PURCHASE, page=page)
    assert Status.UNKNOWN_USER not in client.recommend(stranger).status


def test_the_log_holds_what_was_told(client: Client, shop: Shop, stranger: int) -> None:
    page = client.recommend(stranger)
    item, event_id, now = items_of(page)[0], uuid4(), int(time.time())
    client.record_event(stranger, item, "skip", timestamp=now, event_id=event_id, page=page)
    client.record_event(stranger, item, "view", timestamp=now + 1, event_id="a text")
    told, other = shop.events_of(stranger)
    assert told == UserEvent(stranger, item, Event.SKIP, now, event_id.bytes, page.release, 1.0, 0)
    assert (other.event, other.release) == (Event.VIEW, None)


def test_an_event_that_is_told_twice_is_one_event(client: Client, shop: Shop, stranger: int) -> None:
    item = items_of(client.recommend())[0]
    answers = [client.record_event(stranger, item, "click", event_id=f"order {stranger}") for _ in range(3)]
    assert answers == [Acknowledgement.RECORDED, Acknowledgement.KNOWN, Acknowledgement.KNOWN]
    assert len(shop.events_of(stranger)) == 1


def test_many_events_are_told_at_once(client: Client, shop: Shop, stranger: int) -> None:
    items = items_of(client.recommend())
    events = [Feedback(stranger, item, "click", event_id=f"{stranger} {item}") for item in items]
    assert client.record_events(events[:3]) == [Acknowledgement.RECORDED] * 3
    assert client.record_events(events) == [Acknowledgement.KNOWN] * 3 + [Acknowledgement.RECORDED] * 7
    assert [event.item_id for event in shop.events_of(stranger)] == items
    assert not set(items) & set(items_of(client.recommend(stranger)))


def test_more_events_than_the_server_takes_at_once_are_refused_and_none_is_written(
    client: Client, shop: Shop, stranger: int
) -> None:
    with pytest.raises(InvalidRequest, match="events: found 65 of them; allowed is 1 to 64"):
        client.record_events([Feedback(stranger, 5, "click")] * 65)
    assert shop.events_of(stranger) == []


def test_asyncio_tells_and_forgets_as_threads_do(shop: Shop, stranger: int) -> None:
    async def tell() -> tuple[Page, bool, bool]:
        async with AsyncClient(shop.address, timeout=SOME_TIME) as client:
            page = await client.recommend(stranger)
            tasks = [client.record_event(stranger, item, "click", page=page) for item in items_of(page)[:4]]
            assert await asyncio.gather(*tasks) == [Acknowledgement.RECORDED] * 4
            assert await client.record_events([Feedback(stranger, 5, "view")]) == [Acknowledgement.RECORDED]
            after = await client.recommend(stranger)
            return after, await client.forget_user(stranger), await client.forget_user(stranger)

    page, first, second = asyncio.run(tell())
    assert Status.UNKNOWN_USER not in page.status
    assert (first, second) == (True, False)


def test_who_is_forgotten_is_a_stranger_again(client: Client, shop: Shop) -> None:
    user = shop.build.known_users[20]
    client.record_event(user, items_of(client.recommend(user))[0], "click")
    assert Status.UNKNOWN_USER not in client.recommend(user).status
    assert client.forget_user(user) is True
    assert Status.UNKNOWN_USER in client.recommend(user).status
    assert shop.events_of(user) == []
    assert client.forget_user(user) is False


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (CheckedEvent(-1, 5, Event.CLICK, 0, bytes(16), -1), "user_id"),
        (CheckedEvent(5, -1, Event.CLICK, 0, bytes(16), -1), "item_id"),
        (CheckedEvent(5, 5, 9, 0, bytes(16), -1), "event"),  # type: ignore[arg-type]
        (CheckedEvent(5, 5, Event.CLICK, 2**41, bytes(16), -1), "timestamp"),
        (CheckedEvent(5, 5, Event.CLICK, 0, bytes(16), -2), "page_release"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_slips_past_the_client_is_refused_by_the_server_by_name(
    client: Client, event: CheckedEvent, field: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        client._carry_out(client._exchange.record([event], None))
    assert error.value.field == field


def test_the_server_meets_pseudonyms_only(shop: Shop, stranger: int) -> None:
    with Client(shop.address, timeout=SOME_TIME, pseudonym_key=KEY) as client:
        page = client.recommend(stranger)
        assert client.record_event(stranger, items_of(page)[0], "click", page=page)
        assert Status.UNKNOWN_USER not in client.recommend(stranger).status
        assert Status.ANONYMOUS_USER in client.recommend().status
        assert shop.events_of(stranger) == []
        assert len(shop.events_of(pseudonym(stranger, KEY))) == 1
        assert client.forget_user(stranger) is True
    with Client(shop.address, timeout=SOME_TIME) as open_client:
        assert Status.UNKNOWN_USER in open_client.recommend(pseudonym(stranger, KEY)).status


def run(capsys: pytest.CaptureFixture[str], shop: Shop, *arguments: str) -> Any:
    """What a command prints as JSON; it must succeed."""
    assert main([*arguments, "--json", "--timeout", "20", "--address", shop.address]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_line_tells_and_forgets(
    shop: Shop, stranger: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    user = ("--user", str(stranger))
    record = ("record", *user, "--item", "5", "--event", "click")
    told = run(capsys, shop, *record)
    again = run(capsys, shop, *record, "--event-id", told["event_id"])
    assert (told["acknowledged"], again["acknowledged"]) == ("RECORDED", "KNOWN")
    assert [event.event for event in shop.events_of(stranger)] == [Event.CLICK]
    (tmp_path / "key").write_text(KEY.hex())
    hidden = ("--pseudonym-key-file", str(tmp_path / "key"))
    assert run(capsys, shop, *record, *hidden)["acknowledged"] == "RECORDED"
    assert len(shop.events_of(pseudonym(stranger, KEY))) == 1
    assert [run(capsys, shop, "forget", *user, "--yes") for _ in range(2)] == [
        {"forgotten": True},
        {"forgotten": False},
    ]
    assert "UNKNOWN_USER" in run(capsys, shop, "recommend", *user)["status"]


def test_an_experiment_shows_each_user_the_arm_s_pages_and_ends_without_a_failure(shop: Shop) -> None:
    users = shop.build.known_users[30:60]
    requests = [Request(user) for user in users] + [Request()]
    with (
        Client(shop.address, timeout=SOME_TIME, experiment=EXPERIMENT) as client,
        shop.triton.client() as control,
        ThreadPoolExecutor(4) as pool,
    ):
        arms = [EXPERIMENT.arm_of(user) for user in users]
        assert set(arms) == {"control", "challenger-2"}
        assert [page.arm for page in client.recommend_many(requests)] == [*arms, None]
        asked = [pool.submit(client.recommend, user) for user in users * 20]
        control.unload_model(arm_model("challenger-2"))
        assert all(future.result().items for future in asked)
        expected = ["control" if arm == "control" else None for arm in arms]
        assert [client.recommend(user).arm for user in users] == expected
