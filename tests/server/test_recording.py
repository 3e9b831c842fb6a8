"""What users do is on the next page: `record_event` and `forget_user` on a real server."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from calls import Arrays, ask, request_of, tensors_of
from redis_server import DURABLE, RedisServer
from tiny import Build
from tritonclient.utils import InferenceServerException
from tritonrec_client import Client
from tritonrec_client.contract import (
    NO_PLACE,
    NO_PROPENSITY,
    NO_RELEASE,
    Acknowledgement,
    Event,
    Reason,
    Status,
    release_from_wire,
    release_to_wire,
)

from python_backend.stores import UserRecord, open_event_log, open_store
from tools.data.store import fill_store
from tools.serving.repository import entry_models, write_served_repository
from tools.serving.server import TritonServer

pytestmark = pytest.mark.server

RECORDED, KNOWN = Acknowledgement.RECORDED, Acknowledgement.KNOWN


@dataclass(frozen=True)
class Shop:
    """A server whose store is its own."""

    triton: TritonServer
    build: Build
    store_url: str

    def events_of(self, user: int) -> list[tuple[int, Event]]:
        """What the log holds of `user`: items and what happened to them."""
        with open_event_log(self.store_url) as log:
            return [(event.item_id, event.event) for _, event in log.read() if event.user_id == user]

    def record_of(self, user: int) -> UserRecord | None:
        with open_store(self.store_url, timeout=5) as store:
            (found,) = store.get_many([user])
        assert found is None or isinstance(found, UserRecord)
        return found

    def index_of(self, item: int) -> int:
        """The item's index in the release."""
        with np.load(self.build.release.artifacts / "items.npz") as arrays:
            return int((arrays["wire_id"] == item).argmax())


def serve(build: Build, folder: Path, store_url: str) -> TritonServer:
    release = build.release
    overrides = {"store_url": store_url, "store_timeout_ms": "2000", "write_timeout_ms": "5000"}
    write_served_repository([release.path], release.name, folder / "served", overrides=overrides)
    # The lookup besides, which shows the history that the pipeline's own lookup has, too.
    models = [*entry_models(folder / "served"), f"feature_lookup_{release.name}"]
    return TritonServer(
        folder / "served", log=folder / "log", backends=build.output / "backends", models=models
    )


@pytest.fixture(scope="module")
def shop(tiny_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The tiny release on a copy of its store."""
    folder = tmp_path_factory.mktemp("feedback")
    shutil.copytree(tiny_build.config.store.url.removeprefix("lmdb://"), folder / "store")
    store_url = f"lmdb://{folder}/store"
    with serve(tiny_build, folder, store_url) as triton:
        yield Shop(triton, tiny_build, store_url)


@pytest.fixture(scope="module")
def shop_on_redis(tiny_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("feedback-redis")
    redis = RedisServer(folder, settings=DURABLE)
    redis.start()
    try:
        with open_store(redis.url, timeout=10) as store:
            fill_store(store, tiny_build.dataset.interactions, tiny_build.dataset.user_features)
        with serve(tiny_build, folder, redis.url) as triton:
            yield Shop(triton, tiny_build, redis.url)
    finally:
        redis.kill()


@pytest.fixture
def raw(shop: Shop) -> Iterator[Any]:
    """tritonclient's own client, which checks nothing before it sends."""
    with shop.triton.client() as client:
        yield client


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    with Client(shop.triton.address, timeout=20.0) as client:
        client.connect()
        yield client


def event_of(
    user: int, item: int, event: int = Event.CLICK, event_id: tuple[int, int] | None = None, **changes: Any
) -> Arrays:
    """The tensors of one event."""
    values = {
        "timestamp": int(time.time()),
        "page_release": NO_RELEASE,
        "propensity": NO_PROPENSITY,
        "place": NO_PLACE,
    } | changes
    return {
        "user_id": np.array([[user]], np.int64),
        "item_id": np.array([[item]], np.int64),
        "event": np.array([[event]], np.int32),
        "timestamp": np.array([[values["timestamp"]]], np.int64),
        "event_id": np.array([event_id or tuple(np.random.default_rng().integers(2**62, size=2))], np.int64),
        "page_release": np.array([[values["page_release"]]], np.int64),
        "propensity": np.array([[values["propensity"]]], np.float32),
        "place": np.array([[values["place"]]], np.int32),
    }


def record(raw: Any, arrays: Arrays) -> list[int]:
    acknowledged: npt.NDArray[np.int32] = ask(raw, arrays, "record_event")["acknowledged"]
    return acknowledged[:, 0].tolist()


def click_through(shop: Shop, user: int, clicks: int, event: Event = Event.CLICK) -> int:
    """How often, of so many clicks on the page's first item, the very next answers knew of the click."""
    lookup = f"feature_lookup_{shop.build.release.name}"
    known = 0
    with Client(shop.triton.address, timeout=20.0) as client, shop.triton.client() as raw:
        page = client.recommend(user)
        for _ in range(clicks):
            clicked = page.items[0].item_id
            assert client.record_event(user, clicked, event, page=page) == RECORDED
            request = request_of(shop.build.release.sizes, [user])
            del request["diversity"]
            history = ask(raw, request, lookup)["history"][0].tolist()
            page = client.recommend(user)
            on_page = clicked in [place.item_id for place in page.items]
            known += history[-1] == shop.index_of(clicked) and not on_page
    return known


def test_a_click_is_in_the_history_and_its_item_off_the_page_at_the_very_next_request(shop: Shop) -> None:
    users = shop.build.known_users[1:11]
    assert sum(click_through(shop, user, 5) for user in users) == 50


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lmdb", "redis"])
def test_every_one_of_a_thousand_clicks_is_in_the_very_next_answer(
    kind: str, request: pytest.FixtureRequest
) -> None:
    shop: Shop = request.getfixturevalue("shop" if kind == "lmdb" else "shop_on_redis")
    users = shop.build.known_users[-50:]
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        known = sum(pool.map(lambda user: click_through(shop, user, 20, Event.PURCHASE), users))
    print(
        f"{kind}: {known} of 1,000 in the next answer, {time.monotonic() - started:.0f} s, 8 users at a time"
    )
    assert known == 1000


def test_somebody_unknown_becomes_known_with_the_first_click(shop: Shop, client: Client) -> None:
    user = 2**62 + 1
    page = client.recommend(user)
    assert Status.UNKNOWN_USER in page.status
    client.record_event(user, page.items[0].item_id, Event.CLICK, page=page)
    page = client.recommend(user)
    assert page.status == Status.OK
    assert Reason.HISTORY in {place.reason for place in page.items}


def test_what_was_only_shown_changes_no_page_and_is_logged_with_its_release(
    shop: Shop, client: Client
) -> None:
    user = shop.build.known_users[20]
    before = client.recommend(user)
    for place in before.items[:3]:
        client.record_event(user, place.item_id, Event.VIEW, page=before)
    client.record_event(user, before.items[0].item_id, Event.SKIP, page=before)
    assert client.recommend(user).items == before.items
    shown = [(place.item_id, Event.VIEW) for place in before.items[:3]]
    assert shop.events_of(user) == [*shown, (before.items[0].item_id, Event.SKIP)]
    found = shop.record_of(user)
    assert found is not None
    assert found.counters == {"view": 3, "skip": 1}
    with open_event_log(shop.store_url) as log:
        assert {event.release for _, event in log.read() if event.user_id == user} == {
            shop.build.release.name
        }


def test_a_page_that_was_shown_is_logged_place_by_place_and_once(shop: Shop, client: Client) -> None:
    user = shop.build.known_users[24]
    page = client.recommend(user)
    count = len(page.items)
    assert client.record_page(user, page, page_id=f"page of {user}") == [RECORDED] * count
    assert client.record_page(user, page, page_id=f"page of {user}") == [KNOWN] * count
    client.record_event(user, page.items[2].item_id, Event.CLICK, page=page)
    client.record_event(user, 7, Event.CLICK, place=4, propensity=0.25)
    with open_event_log(shop.store_url) as log:
        logged = [event for _, event in log.read() if event.user_id == user]
    shown = [(place.item_id, Event.VIEW, number, 1.0) for number, place in enumerate(page.items)]
    assert [(event.item_id, event.event, event.place, event.propensity) for event in logged] == [
        *shown,
        (page.items[2].item_id, Event.CLICK, 2, 1.0),
        (7, Event.CLICK, 4, 0.25),
    ]


def test_an_event_that_is_sent_again_is_known_and_changes_nothing(shop: Shop, raw: Any) -> None:
    user = shop.build.known_users[21]
    sent = event_of(user, 7, event_id=(-5, 2**62))
    assert record(raw, sent) == [RECORDED]
    before = shop.record_of(user)
    assert record(raw, sent) == [KNOWN]
    assert shop.events_of(user) == [(7, Event.CLICK)]
    assert shop.record_of(user) == before


def test_the_answer_says_whose_code_wrote_it(shop: Shop, raw: Any) -> None:
    answer = ask(raw, event_of(2**62 + 2, 7), "record_event")
    assert release_from_wire(int(answer["record_event_release"][0, 0])) == shop.build.release.name
    answer = ask(raw, {"user_id": np.array([[2**62 + 2]], np.int64)}, "forget_user")
    assert release_from_wire(int(answer["forget_user_release"][0, 0])) == shop.build.release.name


def test_who_is_forgotten_is_unknown_at_the_very_next_request(shop: Shop, client: Client) -> None:
    user, other = shop.build.known_users[22:24]
    for one in (user, other):
        client.record_event(one, 7, Event.CLICK)
    assert client.forget_user(user)
    page = client.recommend(user)
    assert page.status == Status.UNKNOWN_USER
    assert page.items == client.recommend(2**62 + 3).items
    assert (shop.record_of(user), shop.events_of(user)) == (None, [])
    assert shop.events_of(other) == [(7, Event.CLICK)]
    assert not client.forget_user(user)
    with open_event_log(shop.store_url) as log:
        assert user in log.forgotten()


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("user_id", np.array([[-1]]), "user_id: found -1; allowed is an id from 0 to"),
        ("item_id", np.array([[-1]]), "item_id: found -1; allowed is an id from 0 to"),
        ("event", np.array([[0]], np.int32), "event: found 0; allowed is 1 (view), 2 (click)"),
        (
            "timestamp",
            np.array([[2**40]]),
            "timestamp: found 1099511627776; allowed is unix seconds from 0 to",
        ),
        ("page_release", np.array([[-2]]), "page_release: found -2; allowed is -1 (none)"),
        ("propensity", np.array([[2]], np.float32), "propensity: found 2.0; allowed is a number above 0"),
        ("place", np.array([[-2]], np.int32), "place: found -2; allowed is a place from 0, or -1 (unknown)"),
    ],
)
def test_what_cannot_have_happened_is_refused_and_nothing_written(
    shop: Shop, raw: Any, field: str, change: npt.NDArray[Any], message: str
) -> None:
    user = 2**62 + 4
    with pytest.raises(InferenceServerException) as refused:
        record(raw, event_of(user, 7) | {field: change})
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert message in str(refused.value.message())
    assert (shop.record_of(user), shop.events_of(user)) == (None, [])


def test_events_that_arrive_together_are_written_together(shop: Shop, raw: Any) -> None:
    users = [2**61 + number for number in range(300)]
    before = shop.triton.statistics()["record_event"]
    calls = [event_of(user, 7, page_release=release_to_wire("0123456789ab")) for user in users]
    with ThreadPoolExecutor(32) as pool:
        answers = list(
            pool.map(lambda arrays: raw.infer("record_event", tensors_of(arrays), client_timeout=20), calls)
        )
    assert [int(answer.as_numpy("acknowledged")[0, 0]) for answer in answers] == [RECORDED] * 300
    used = shop.triton.statistics()["record_event"] - before
    assert used.requests == 300
    assert used.executions < 300
    with open_event_log(shop.store_url) as log:
        counts = Counter(event.user_id for _, event in log.read() if event.user_id in users)
    assert counts == dict.fromkeys(users, 1)


def test_a_store_that_is_away_is_unavailable_and_the_event_may_be_sent_again(shop: Shop, raw: Any) -> None:
    """A file lies where the store's folder was: neither can be read, nor a new one made."""
    folder = Path(shop.store_url.removeprefix("lmdb://"))
    user, sent = 2**62 + 5, event_of(2**62 + 5, 7)
    folder.rename(folder.with_name("away"))
    folder.touch()
    try:
        for model, arrays in (("record_event", sent), ("forget_user", {"user_id": sent["user_id"]})):
            with pytest.raises(InferenceServerException) as refused:
                ask(raw, arrays, model)
            assert refused.value.status() == "StatusCode.UNAVAILABLE"
            assert f"{model}: {shop.store_url}: " in str(refused.value.message())
    finally:
        folder.unlink()
        folder.with_name("away").rename(folder)
    assert record(raw, sent) == [RECORDED]
    assert shop.events_of(user) == [(7, Event.CLICK)]
