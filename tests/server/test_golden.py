"""Golden requests on a real server: what a release answered once is what it must answer again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import Server

from python_backend.release import Release
from tools.checks import CheckFailed
from tools.releases.golden import GOLDEN, check_golden, golden_sessions, write_golden

pytestmark = pytest.mark.server

Change = Callable[[dict[str, np.ndarray]], None]


@pytest.fixture
def grpc_client(staged_server: Server) -> Iterator[Any]:
    """A client of the server that has a model for each stage."""
    with staged_server.triton.client() as client:
        yield client


@pytest.fixture(scope="module")
def written(staged_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The served release with golden requests of its own, in another folder."""
    served = staged_server.build.release
    folder = tmp_path_factory.mktemp("golden") / served.name
    folder.mkdir()
    shutil.copy(served.path / "manifest.json", folder)
    release = Release.open(folder)
    sessions = golden_sessions(staged_server.dataset.interactions)
    with staged_server.triton.client() as client:
        write_golden(folder, client, release, sessions)
    return release


@pytest.fixture
def changed(written: Release, tmp_path: Path) -> Callable[[Change], Release]:
    """Makes a release whose golden answers were others."""

    def change(how: Change) -> Release:
        shutil.copytree(written.path, tmp_path / "release")
        with np.load(written.path / GOLDEN) as arrays:
            kept = dict(arrays)
        how(kept)
        np.savez(tmp_path / "release" / GOLDEN, **kept)
        return Release.open(tmp_path / "release")

    return change


def test_a_release_answers_as_it_did_when_it_was_built(grpc_client: Any, written: Release) -> None:
    check_golden(grpc_client, written)
    check_golden(grpc_client, written, with_rules=True)


def test_where_the_stages_are_one_model_the_pages_are_compared(
    server: Server, written: Release, changed: Callable[[Change], Release]
) -> None:
    def lower_a_score(kept: dict[str, np.ndarray]) -> None:
        kept["recommend/score"][3, 7] -= 0.01

    with server.triton.client() as client:
        check_golden(client, written)
        with pytest.raises(CheckFailed, match=r"golden requests: recommend, request 4 .*: score\[7\]"):
            check_golden(client, changed(lower_a_score))


def test_the_requests_name_nobody_and_have_both_diversities(written: Release) -> None:
    with np.load(written.path / GOLDEN) as kept:
        assert (kept["inputs/user_id"] == -1).all()
        assert len(np.unique(kept["inputs/diversity"])) == 2
        assert ((kept["inputs/session_items"] >= 0).sum(axis=1) <= 2).all()


def test_the_same_answers_give_the_same_bytes(
    staged_server: Server, grpc_client: Any, written: Release, tmp_path: Path
) -> None:
    write_golden(tmp_path, grpc_client, written, golden_sessions(staged_server.dataset.interactions))
    assert (tmp_path / GOLDEN).read_bytes() == (written.path / GOLDEN).read_bytes()


def test_the_stage_that_changed_is_named_with_the_request_and_what_differs(
    grpc_client: Any, changed: Callable[[Change], Release]
) -> None:
    def lower_a_score(kept: dict[str, np.ndarray]) -> None:
        kept["rank/rank_score"][3, 7] -= 0.01

    with pytest.raises(CheckFailed, match=r"golden requests: rank, request 4 \(session of .*rank_score\[7\]"):
        check_golden(grpc_client, changed(lower_a_score))


def test_another_order_is_noticed_and_is_allowed_only_under_rules(
    grpc_client: Any, changed: Callable[[Change], Release]
) -> None:
    def turn_the_first_page(kept: dict[str, np.ndarray]) -> None:
        for name in ("rerank/item_id", "recommend/item_id"):
            kept[name][0] = kept[name][0, ::-1]

    release = changed(turn_the_first_page)
    with pytest.raises(CheckFailed, match=r"rerank, request 1 \(empty session, diversity 0\): item_id\[0\]"):
        check_golden(grpc_client, release)
    check_golden(grpc_client, release, with_rules=True)


def test_the_stages_before_the_page_are_compared_under_rules_too(
    grpc_client: Any, changed: Callable[[Change], Release]
) -> None:
    def forget_an_item(kept: dict[str, np.ndarray]) -> None:
        kept["feature_lookup/history"][1] = 0

    with pytest.raises(CheckFailed, match=r"feature_lookup, request 2 .*: history\["):
        check_golden(grpc_client, changed(forget_an_item), with_rules=True)


def test_an_answer_of_another_release_is_no_answer(
    staged_server: Server, grpc_client: Any, changed: Callable[[Change], Release]
) -> None:
    nobody = Release("ffffffffffff", staged_server.sizes, changed(lambda kept: None).path)
    with pytest.raises(CheckFailed, match=r"recommend, request 1 .*: no answer: .*ffffffffffff"):
        check_golden(grpc_client, nobody)


@pytest.mark.parametrize(
    ("sessions", "complaint"),
    [
        ([[5]], "no session is empty"),
        ([[], [5] * 6], "a session has 6 items; a request holds at most 5"),
        ([[], [-1]], "a session holds -1; ids of items are at least 0"),
    ],
)
def test_sessions_that_cannot_be_asked_for_are_refused(
    grpc_client: Any, written: Release, tmp_path: Path, sessions: list[list[int]], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        write_golden(tmp_path, grpc_client, written, sessions)
    assert not (tmp_path / GOLDEN).exists()
