"""The benchmark of one client's latency, on a real server of the tiny release."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import Build
from tritonrec_client import Client
from tritonrec_client.contract import Status

from tools.bench_latency import BAD_USAGE, EMPTY, IN_PROCESS, OK, SELDOM, SERVED, main
from tools.serving.emptying import write_emptied_repository
from tools.serving.repository import write_served_repository
from tools.serving.server import STAGED, TritonServer

pytestmark = pytest.mark.server


def test_an_emptied_repository_answers_with_zeros_on_the_same_ways(tiny_build: Build, tmp_path: Path) -> None:
    release = tiny_build.release
    write_served_repository([release.path], release.name, tmp_path / "served")
    write_emptied_repository(tmp_path / "served", tmp_path / "empty")
    for config in (tmp_path / "served").glob("*/config.pbtxt"):
        copied = tmp_path / "empty" / config.relative_to(tmp_path / "served")
        assert copied.read_bytes() == config.read_bytes()
    backends = tiny_build.output / "backends"
    with (
        TritonServer(
            tmp_path / "empty", log=tmp_path / "empty.log", backends=backends, profile=STAGED
        ) as server,
        Client(server.address) as client,
    ):
        page = client.recommend(tiny_build.known_users[0])
    assert [item.item_id for item in page.items] == [0] * release.sizes.results
    assert page.status == Status.OK
    assert set(page.releases.values()) == {"0" * 12}


def test_every_way_is_timed_and_the_difference_taken_apart(tiny_build: Build, tmp_path: Path) -> None:
    figures_file = tmp_path / "figures.json"
    arguments = ["--build", str(tiny_build.output), "--store", tiny_build.config.store.url]
    assert main([*arguments, "--repeats", "2", "--requests", "20", "--json", str(figures_file)]) == OK
    figures = json.loads(figures_file.read_text(encoding="utf-8"))
    for way in (SERVED, IN_PROCESS, EMPTY, SELDOM):
        assert 0 < figures[way]["p50"] <= figures[way]["p99"], way
    assert figures["of this nothing computed"] == figures[EMPTY]["p50"]
    assert np.isfinite(figures["of this pauses"])
    # Whoever computes needs longer than who does not.
    assert figures[EMPTY]["p50"] < figures[SERVED]["p50"]


def test_a_folder_without_a_release_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--build", str(tmp_path)]) == BAD_USAGE
    assert str(tmp_path) in capsys.readouterr().err
