"""The whole loop on a real Triton: what users do is recorded, learned from, and served by a new release."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny import ITEM_IDS, Build
from tritonrec_client import Client
from tritonrec_client.ids import wire_id

from python_backend.pipeline import Pipeline
from python_backend.release import Release
from python_backend.stores import UserRecord, open_store
from tools.build_repo import OK, main
from tools.config.build import load_config
from tools.data.fill import fill
from tools.data.gather import gather, open_log
from tools.evaluation.comparison import COMPARED
from tools.evaluation.served import requests_of
from tools.releases.manifest import read_manifest, verify
from tools.serving.repository import write_served_repository
from tools.serving.server import TritonServer

ROOT = Path(__file__).parents[2]
NEWCOMER, LEAVER = 5_000_000, 5_000_001
NEW_ITEM = ITEM_IDS[-1] + 1
PATIENCE = 120.0


@pytest.fixture(scope="module")
def shop(tiny_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A copy of the made-up shop with its release, for this module to change; and one item that is new."""
    folder = tmp_path_factory.mktemp("refreshed") / "shop"
    shutil.copytree(tiny_build.folder, folder, symlinks=True)
    build = Build(folder)
    build.toml.write_text(
        build.toml.read_text().replace(str(tiny_build.folder), str(folder))
        + "\n[gates.ndcg_10]\nleast_ratio = 0.01\n"  # 80 users say little about a ratio
    )
    shutil.rmtree(build.output / "served", ignore_errors=True)
    with (folder / "items.csv").open("a") as file:
        file.write(f"{NEW_ITEM},red tea,shelf 1,tag 1,1.0\n")
    return build


@pytest.fixture(scope="module")
def triton(shop: Build) -> Iterator[TritonServer]:
    repository = shop.output / "served"
    overrides = {"store_url": shop.config.store.url}
    write_served_repository([shop.release.path], shop.release.name, repository, overrides=overrides)
    with TritonServer(
        repository, log=shop.folder / "refreshing.log", backends=shop.output / "backends"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def newer(shop: Build, triton: TritonServer) -> Release:
    """What a watch makes of the events that clients send meanwhile, activated on the server."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients")])}
    command = [sys.executable, str(ROOT / "tools" / "build_repo.py"), "--config", str(shop.toml)]
    command += ["--refresh", "--watch", "--events", "12", "--activate", triton.address]
    output = shop.folder / "watch.log"
    with output.open("w") as log:
        # Whoever runs the tests in the background ignores Ctrl-C, and what they start would inherit that.
        watch = subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
    try:
        with Client(triton.address, timeout=10.0) as client:
            page = client.recommend(NEWCOMER)
            for item in ITEM_IDS[:8]:
                client.record_event(NEWCOMER, item, "click", page=page)
            for item in ITEM_IDS[:5]:
                client.record_event(LEAVER, item, "purchase")
            client.record_event(NEWCOMER, ITEM_IDS[20], "view", page=page)
            client.forget_user(LEAVER)
            for item in ITEM_IDS[8:12]:
                client.record_event(NEWCOMER, item, "click")
        deadline = time.monotonic() + PATIENCE
        while "serving release" not in output.read_text():
            assert watch.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.2)
    finally:
        watch.send_signal(signal.SIGINT)
        status = watch.wait(90)
    assert status == OK, output.read_text()
    return shop.releases[-1]


def test_a_watch_refreshes_after_so_many_events_and_activates_the_release(
    shop: Build, newer: Release, triton: TritonServer
) -> None:
    manifest = read_manifest(newer.path)
    assert manifest["refreshed_from"] == shop.release.name
    assert manifest["feedback"]["fresh"] == 12
    with Client(triton.address, timeout=10.0) as client:
        assert client.recommend(shop.known_users[0]).release == newer.name


def test_the_release_says_what_it_was_made_of_and_can_be_verified(newer: Release) -> None:
    assert list(verify(newer.path)) == []
    assert "12 events that were logged since" in read_manifest(newer.path)["trained_on"]


def test_the_old_release_was_asked_the_same_questions(shop: Build, newer: Release) -> None:
    with (
        np.load(newer.path / "report" / COMPARED) as compared,
        np.load(newer.path / "report" / "ranks.npz") as ranks,
    ):
        assert str(compared["release"]) == shop.release.name
        assert len(compared["ranks"]) == len(ranks["question"])


def test_who_was_forgotten_is_not_learned_from_and_who_is_new_is(newer: Release, shop: Build) -> None:
    manifest = read_manifest(newer.path)
    assert manifest["forgotten"] == 1
    assert manifest["data"]["users"] == read_manifest(shop.release.path)["data"]["users"] + 1


def test_an_item_that_nobody_has_met_is_somebodys_candidate(shop: Build, newer: Release) -> None:
    with np.load(newer.artifacts / "items.npz") as items:
        index = int(np.flatnonzero(items["wire_id"] == wire_id(NEW_ITEM))[0])
    assert np.isclose(np.linalg.norm(np.load(newer.artifacts / "item_vectors.npy")[index]), 1)
    pipeline = Pipeline.load(newer, {"store_url": shop.config.store.url})
    assert index in pipeline(requests_of(np.array(shop.known_users), newer.sizes, 0.0))["candidate"]


def test_a_refresh_without_news_makes_no_release(
    shop: Build, newer: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(shop.toml), "--refresh"]) == OK
    assert f"nothing new since release {newer.name}" in capsys.readouterr().out
    assert shop.releases[-1].name == newer.name


def test_filling_the_store_again_loses_nothing_that_was_recorded(shop: Build, newer: Release) -> None:
    config = load_config(shop.toml)
    fill(config, gather(config), lambda done, total: None)
    with open_log(config) as log:
        logged = len(log.read())
    with open_store(config.store.url) as store:
        (record,) = store.get_many([NEWCOMER])
    assert logged == 13
    assert isinstance(record, UserRecord)
    assert record.items.tolist() == list(ITEM_IDS[:12])
    assert record.counters == {"click": 12, "view": 1}
