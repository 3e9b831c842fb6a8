"""A release that explores: what it draws, and how likely it says that was, on a real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from calls import Arrays, ask, request_of
from scipy.stats import chisquare
from tiny import Build, write_shop
from tritonrec_client import Client
from tritonrec_client.contract import Reason, Status

from python_backend.release import Release
from tools.build_repo import OK, main
from tools.config.training import ExplorationConfig
from tools.off_policy import main as off_policy
from tools.releases.exploration import write_exploration
from tools.releases.golden import check_golden
from tools.releases.manifest import verify
from tools.serving.repository import write_served_repository
from tools.serving.server import TritonServer

pytestmark = pytest.mark.server

PLACES = 2
ROWS, CALLS = 64, 60


@dataclass(frozen=True)
class Exploring:
    """A server of the tiny release as one that explores, with a store of its own."""

    triton: TritonServer
    folder: Path
    build: Build

    @property
    def release(self) -> Release:
        return Release.open(self.folder / "releases" / self.build.release.name)


@pytest.fixture(scope="module", params=["epsilon", pytest.param("thompson", marks=pytest.mark.slow)])
def exploring(
    request: pytest.FixtureRequest, tiny_build: Build, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Exploring]:
    folder = tmp_path_factory.mktemp("exploring")
    release = folder / "releases" / tiny_build.release.name
    shutil.copytree(tiny_build.release.path, release)
    shutil.copytree(tiny_build.config.store.url.removeprefix("lmdb://"), folder / "store")
    settings = {"places": PLACES, "method": request.param, "epsilon": 0.5, "pool": 4}
    write_exploration(
        release / "artifacts",
        ExplorationConfig.model_validate(settings),
        tiny_build.dataset.interactions,
        None,
    )
    overrides = {"store_url": f"lmdb://{folder}/store", "store_timeout_ms": "2000"}
    write_served_repository([release], tiny_build.release.name, folder / "served", overrides=overrides)
    with TritonServer(
        folder / "served", log=folder / "log", backends=tiny_build.output / "backends"
    ) as triton:
        yield Exploring(triton, folder, tiny_build)


def asked_often(exploring: Exploring, diversity: float, calls: int = CALLS) -> Arrays:
    """The pages of one user, who asks again and again."""
    user = exploring.build.known_users[5]
    question = request_of(exploring.release.sizes, [user] * ROWS, diversity=diversity)
    with exploring.triton.client() as client:
        parts = [ask(client, question) for _ in range(calls)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_items_are_shown_as_often_as_the_pages_say(exploring: Exploring) -> None:
    pages = asked_often(exploring, 0.3)
    first = exploring.release.sizes.results - PLACES
    assert (pages["propensity"][:, :first] == 1).all()
    assert len(np.unique(pages["item_id"][:, :first], axis=0)) == 1
    tested = 0
    for place in (first, first + 1):
        for above in np.unique(pages["item_id"][:, first]) if place > first else [None]:
            rows = slice(None) if above is None else pages["item_id"][:, first] == above
            shown, index, counts = np.unique(
                pages["item_id"][rows, place], return_index=True, return_counts=True
            )
            propensity = pages["propensity"][rows, place][index].astype(float)
            if propensity.sum() < 0.999:  # too few draws to see every item
                continue
            assert chisquare(counts, propensity / propensity.sum() * counts.sum()).pvalue > 1e-4
            tested += len(shown) > 1
    assert tested >= 2
    assert Reason.EXPLORED in pages["reason"][:, first:]


def test_the_ranker_s_order_is_not_explored(exploring: Exploring) -> None:
    pages = asked_often(exploring, 0.0, calls=2)
    assert len(np.unique(pages["item_id"], axis=0)) == 1
    assert (pages["propensity"] == 1).all()


def test_the_client_sees_pages_with_propensities(exploring: Exploring) -> None:
    with Client(exploring.triton.address, timeout=20.0) as client:
        page = client.recommend(exploring.build.known_users[5], diversity=0.3)
    assert page.status == Status.OK
    assert all(place.propensity == 1 for place in page.items[:-PLACES])
    assert all(0 < place.propensity < 1 for place in page.items[-PLACES:])


def test_the_release_that_logged_is_estimated_to_earn_what_it_earned(
    exploring: Exploring, capsys: pytest.CaptureFixture[str]
) -> None:
    """As what stands where and why is read from the log alone, everything must be put together again."""
    random = np.random.default_rng(3)
    users = exploring.build.known_users[:60]
    clicks = 0
    with Client(exploring.triton.address, timeout=20.0) as client:
        for user in users:
            page = client.recommend(user)
            client.record_page(user, page)
            for place in page.items[-PLACES:]:
                if random.random() < 0.4:
                    clicks += 1
                    client.record_event(user, place.item_id, "click", page=page)
    assert off_policy(["--build", str(exploring.folder), "--json"]) == OK
    report = json.loads(capsys.readouterr().out)
    assert (report["draws"], report["users"]) == (PLACES * len(users), len(users))
    assert report["logged"]["mean"] == pytest.approx(clicks / (PLACES * len(users)))
    assert report["effective_draws"] == pytest.approx(report["draws"], rel=1e-3)
    assert report["mean_weight"]["mean"] == pytest.approx(1, abs=1e-3)
    assert report["snips"]["mean"] == pytest.approx(report["logged"]["mean"], rel=1e-3)


@pytest.mark.slow
def test_a_build_with_exploration_passes_its_own_checks_again_and_again(tmp_path: Path) -> None:
    build = write_shop(tmp_path)
    with build.toml.open("a") as file:
        file.write("\n[rerank.exploration]\nplaces = 2\nepsilon = 0.9\npool = 20\n")
    assert main(["--config", str(build.toml)]) == OK
    assert list(verify(build.release.path)) == []
    with build.triton("served", store_url=build.config.store.url) as triton, triton.client() as client:
        for _ in range(5):
            check_golden(client, build.release)
