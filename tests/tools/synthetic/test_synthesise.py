"""The command that makes up a release: what it refuses, and what it makes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tritonrec_client import Client

from python_backend.stores import UserRecord, open_store
from tools.load.visitors import stored_users
from tools.memory import memory_of_models
from tools.releases.folder import find_release
from tools.releases.manifest import read_manifest, verify
from tools.serving.repository import write_served_repository
from tools.serving.server import TritonServer
from tools.synthesise import BAD_USAGE, OK, main


@pytest.mark.parametrize(
    "arguments", [[], ["--items", "19"], ["--items", "many"], ["--items", "30", "--users", "0"]]
)
def test_numbers_that_cannot_be_meant_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == BAD_USAGE


def test_a_folder_with_a_release_learned_from_data_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = tmp_path / "releases" / "0123456789ab"
    real.mkdir(parents=True)
    (real / "manifest.json").write_text(json.dumps({"release": real.name, "sizes": {}}))
    before = sorted(tmp_path.rglob("*"))
    assert main(["--items", "300", "--output", str(tmp_path)]) == BAD_USAGE
    assert "release 0123456789ab, which was learned from data" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.server
@pytest.mark.slow
def test_a_made_up_release_is_whole_says_so_and_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    arguments = ["--items", "300", "--users", "50"]
    assert main([*arguments, "--output", str(first)]) == OK
    assert main([*arguments, "--output", str(second)]) == OK
    assert "SYNTHETIC" in capsys.readouterr().out
    release = find_release(first)
    assert release.name == find_release(second).name
    assert list(verify(release.path)) == []

    manifest = read_manifest(release.path)
    assert manifest["synthetic"].startswith("SYNTHETIC")
    assert manifest["trained_on"].startswith("SYNTHETIC")
    assert manifest["metrics"] == {}
    assert "SYNTHETIC" in (release.path / "report" / "index.html").read_text()
    assert (release.path / "golden.npz").is_file()

    url = f"lmdb://{first / 'store'}"
    assert stored_users(url).tolist() == list(range(1, 51))
    with open_store(url) as store:
        assert all(isinstance(record, UserRecord) for record in store.get_many(range(1, 51)))

    # What is there is not made again.
    written = (first / "synthesis.json").stat().st_mtime_ns
    assert main([*arguments, "--output", str(first)]) == OK
    assert (first / "synthesis.json").stat().st_mtime_ns == written

    write_served_repository([release.path], release.name, first / "served", overrides={"store_url": url})
    server = TritonServer(first / "served", log=first / "triton.log", backends=first / "backends")
    with server, Client(server.address) as client:
        pages = [client.recommend(user) for user in (1, 50)]
        memory = memory_of_models(server.pid)
    for page in pages:
        assert page.release == release.name
        assert len({item.item_id for item in page.items}) == release.sizes.results
    assert len(memory) > 1
    assert min(np.concatenate(list(map(np.array, memory.values())))) > 0
