"""The programs that keep a cluster's volume: the first release, its users' records, and refreshes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny import Build, Server

from python_backend.stores import UserRecord, open_store
from tools.import_release import BAD_INPUT, FAILED, OK, main
from tools.refresh_release import main as refresh
from tools.releases.manifest import read_manifest, write_manifest

pytestmark = pytest.mark.server

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path / "volume"


@pytest.fixture
def toml(tiny_build: Build, volume: Path, tmp_path: Path) -> Path:
    """The tiny shop's configuration, for the volume and with a store of its own."""
    text = tiny_build.toml.read_text().replace(f"{tiny_build.folder}/build", str(volume))
    (tmp_path / "volume.toml").write_text(text)
    return tmp_path / "volume.toml"


def test_a_release_is_imported_and_its_users_are_written_into_the_store_once(
    tiny_build: Build, volume: Path, toml: Path, capsys: Printed
) -> None:
    words = [f"--build={volume}", f"--from={tiny_build.output}", f"--config={toml}"]
    assert main(words) == OK
    assert (volume / "releases" / tiny_build.release.name / "manifest.json").is_file()
    with open_store(f"lmdb://{volume}/store", timeout=5.0) as store:
        assert all(isinstance(record, UserRecord) for record in store.get_many(tiny_build.known_users))
    capsys.readouterr()
    assert main(words) == OK
    printed = capsys.readouterr().out
    assert "was there, and is whole" in printed
    assert "the feature store is filled" in printed


def test_where_a_release_is_there_none_is_built(
    tiny_build: Build, volume: Path, toml: Path, capsys: Printed
) -> None:
    assert main([f"--build={volume}", f"--from={tiny_build.output}"]) == OK
    assert main([f"--build={volume}", f"--config={toml}"]) == OK
    printed = capsys.readouterr().out
    assert f"release {tiny_build.release.name} is there; nothing to build" in printed
    assert "filling the feature store" in printed


def test_on_an_empty_volume_a_release_is_built_or_it_is_told_why_not(
    volume: Path, toml: Path, capsys: Printed
) -> None:
    toml.write_text(toml.read_text().replace("events.tsv", "nowhere.tsv"))
    assert main([f"--build={volume}", f"--config={toml}"]) == BAD_INPUT
    assert "nowhere.tsv" in capsys.readouterr().err


def test_nothing_is_built_before_the_store_answers(
    volume: Path, toml: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITONREC_STORE", "redis://127.0.0.1:1/0")
    assert main([f"--build={volume}", f"--config={toml}", "--wait=0.5"]) == FAILED
    printed = capsys.readouterr()
    assert "waiting for it" in printed.out
    assert "redis://127.0.0.1:1" in printed.err
    assert not volume.exists()


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        ([], BAD_INPUT, "needs --from, --config or both"),
        (["--config=x.toml", "--release=aaaaaaaaaaaa"], BAD_INPUT, "--release needs --from"),
        (["--from=/nowhere"], FAILED, "no release in /nowhere"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    volume: Path, capsys: Printed, words: list[str], status: int, complaint: str
) -> None:
    assert main([f"--build={volume}", *words]) == status
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_a_refresh_goes_on_from_what_is_served_and_not_from_the_newest(
    server: Server, volume: Path, toml: Path, capsys: Printed
) -> None:
    assert main([f"--build={volume}", f"--from={server.build.output}"]) == OK
    newer = volume / "releases" / "bbbbbbbbbbbb"
    shutil.copytree(volume / "releases" / server.release, newer)
    write_manifest(newer, {**read_manifest(newer), "release": newer.name, "created": "2100-01-01"})
    assert refresh([f"--config={toml}", f"--address={server.grpc_address}"]) == OK
    assert f"nothing new since release {server.release}" in capsys.readouterr().out
    assert refresh([f"--config={toml}"]) == OK
    assert f"nothing new since release {newer.name}" in capsys.readouterr().out


def test_a_release_that_is_served_but_not_on_the_volume_ends_a_refresh(
    server: Server, toml: Path, capsys: Printed
) -> None:
    assert refresh([f"--config={toml}", f"--address={server.grpc_address}"]) == FAILED
    assert f"no release {server.release} in" in capsys.readouterr().err


def test_a_service_that_does_not_answer_ends_a_refresh(toml: Path, capsys: Printed) -> None:
    assert refresh([f"--config={toml}", "--address=localhost:1"]) == FAILED
    assert "refresh_release.py: localhost:1: " in capsys.readouterr().err
