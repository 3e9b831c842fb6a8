"""Building a release with the command line: whole or not at all, the same from the same."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from processes import children_of
from tiny import Build, write_shop

from python_backend.release import Release
from tools import build_repo
from tools.build_repo import BAD_INPUT, OK, main
from tools.releases.manifest import verify

pytestmark = pytest.mark.server


Result = TypeVar("Result")


def names(build: Build) -> list[str]:
    return [release.name for release in build.releases]


def run(build: Build, *arguments: str) -> int:
    return main(["--config", str(build.toml), *arguments])


def test_a_release_holds_what_serving_needs_and_a_report(tiny_build: Build) -> None:
    release = tiny_build.release
    assert {path.name for path in release.path.iterdir()} == {
        "artifacts",
        "code",
        "golden.npz",
        "manifest.json",
        "models",
        "report",
        "training",
    }
    assert {path.name for path in release.artifacts.iterdir()} >= {
        "retrieve.onnx",
        "rank.onnx",
        "items.npz",
        "item_vectors.npy",
        "items.tsv",
        "user_features.json",
        "item_features.json",
        "rerank.json",
    }
    assert {path.name for path in (release.path / "models").iterdir()} == {
        "recommend",
        "pipeline",
        "feature_lookup",
        "retrieve",
        "rank",
        "retrieve_and_rank",
        "rerank",
        "record_event",
        "forget_user",
    }
    page = (release.path / "report" / "index.html").read_text()
    assert release.name in page
    assert "<script src" not in page
    assert "http" not in page.split("</head>")[0]  # it can be read without a network


def test_the_manifest_says_from_what_it_was_built_and_how_it_was_checked(tiny_build: Build) -> None:
    manifest = json.loads((tiny_build.release.path / "manifest.json").read_text())
    interactions = tiny_build.dataset.interactions
    assert manifest["data"]["users"] == interactions.n_users
    assert manifest["data"]["events"] == interactions.n_events
    assert manifest["contract"]["recommend"]["item_id"] == ["INT64", tiny_build.config.sizes.results]
    check = manifest["checks"]["served_is_in_process"]
    assert (check["users"], check["different_lists"]) == (interactions.n_users, 0)
    assert check["score_difference"] <= 1e-5


def test_the_metrics_are_those_of_the_manifest(tiny_build: Build) -> None:
    release = tiny_build.release
    metrics = json.loads((release.path / "report" / "metrics.json").read_text())
    manifest = json.loads((release.path / "manifest.json").read_text())
    assert metrics == manifest["metrics"]
    assert metrics["release"] == release.name


def test_a_release_is_as_it_was_built_until_a_file_is_touched(
    tiny_build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    release = tiny_build.release
    assert list(verify(release.path)) == []
    assert main(["verify", str(release.path)]) == OK
    assert capsys.readouterr().out == f"{release.name}: every file is as it was built\n"

    stage = release.path / "models" / "rank" / "1" / "model.py"
    source, extra = stage.read_text(), release.artifacts / "extra"
    stage.write_text(source + "#")
    extra.touch()
    assert main(["verify", str(release.path)]) == build_repo.FAILED
    assert capsys.readouterr().err.splitlines() == [
        f"{release.name}: artifacts/extra: is not part of the release",
        f"{release.name}: models/rank/1/model.py: was changed",
    ]
    stage.write_text(source)
    extra.unlink()
    assert main(["verify", str(release.path)]) == OK


def test_verifying_what_is_no_release_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path)]) == BAD_INPUT
    assert "manifest.json" in capsys.readouterr().err


def test_the_same_inputs_reuse_the_release(tiny_build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    assert run(tiny_build) == OK
    assert time.monotonic() - started < 5
    assert f"reusing release {tiny_build.release.name}" in capsys.readouterr().out
    assert names(tiny_build) == [tiny_build.release.name]


def test_a_store_that_was_emptied_is_filled_again_without_a_new_build(
    tiny_build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tiny_build.toml.read_text()
    other = tmp_path / "other-store.toml"
    other.write_text(text.replace(tiny_build.config.store.url, f"lmdb://{tmp_path}/store"))
    assert main(["--config", str(other)]) == OK
    assert "filling the feature store" in capsys.readouterr().out
    assert (tmp_path / "store" / "data.mdb").exists()
    assert names(tiny_build) == [tiny_build.release.name]


def test_a_killed_build_leaves_no_release_and_no_server_and_the_next_one_builds_the_same_again(
    tiny_build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, releases, errors = tiny_build.release.name, tiny_build.output / "releases", tmp_path / "errors"
    with building(tiny_build, errors, "--seed", "2") as build:
        triton = wait_for(lambda: serving_child(build), "Triton to serve the draft")
        assert errors.read_text() == ""  # no library has anything to complain of either
        build.kill()
    (draft,) = releases.glob(".*/release")
    other = Release.open(draft).name
    assert other != first  # it is the seed that differs
    assert names(tiny_build) == [first]
    assert main(["verify", str(releases / other)]) == BAD_INPUT
    wait_for(lambda: not Path(f"/proc/{triton}").exists(), "Triton to end")

    capsys.readouterr()
    assert run(tiny_build, "--force") == OK
    assert f"release {first}" in capsys.readouterr().out
    assert [path.name for path in releases.iterdir()] == [first]  # what was left over is gone
    assert list(verify(tiny_build.release.path)) == []


@contextlib.contextmanager
def building(build: Build, errors: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own, killed at the end of the with block at the latest."""
    command = [sys.executable, build_repo.__file__, "--config", str(build.toml), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with errors.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def serving_child(build: subprocess.Popen[bytes]) -> int | None:
    """The process id of the Triton that `build` started, as soon as it serves."""
    assert build.poll() is None, "the build ended before Triton served"
    for child in children_of(build.pid):
        try:
            words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        ports = [word.partition("=")[2] for word in words if word.startswith("--grpc-port=")]
        if ports and listens(int(ports[0])):
            return child
    return None


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], Result], what: str) -> Result:
    deadline = time.monotonic() + 60
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.02)
    return result


BAD_EVENTS = {
    "an unknown item": "1000\t999999\t1700000000",
    "no time": "1000\t5\tsoon",
    "a negative user": "-3\t5\t1700000000",
}


@pytest.mark.parametrize("line", BAD_EVENTS.values(), ids=BAD_EVENTS)
@pytest.mark.parametrize("arguments", [[], ["--check"], ["--validate"]], ids=["build", "check", "validate"])
def test_bad_data_are_named_by_file_and_row_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, arguments: list[str]
) -> None:
    build = write_shop(tmp_path)
    events = tmp_path / "events.tsv"
    lines = events.read_text().splitlines()
    events.write_text("\n".join([*lines[:4], line, *lines[4:]]))
    before = sorted(tmp_path.iterdir())

    assert run(build, *arguments) == BAD_INPUT
    message = capsys.readouterr().err
    assert str(events) in message
    assert "5" in message  # the line
    assert sorted(tmp_path.iterdir()) == before


def test_a_bad_configuration_is_named_by_its_key_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = write_shop(tmp_path)
    build.toml.write_text(build.toml.read_text().replace("candidates = 60", "candidates = 5"))
    before = sorted(tmp_path.iterdir())
    assert run(build) == BAD_INPUT
    message = capsys.readouterr().err
    assert f"{build.toml}: contract: results is 10; it may be at most the number of candidates, 5" in message
    assert sorted(tmp_path.iterdir()) == before


def test_looking_at_the_data_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = write_shop(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run(build, "--check") == OK
    assert "82 users and 150 items" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before
