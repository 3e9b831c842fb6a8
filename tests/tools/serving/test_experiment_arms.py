"""Arms on a real server: they come and go by the command line, and are judged like what is activated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from toy_release import make_release

from tools.experiment import BAD_INPUT, FAILED, OK, main
from tools.releases.manifest import folder_hashes, read_manifest, write_manifest
from tools.serving.repository import write_served_repository
from tools.serving.server import TritonServer

pytestmark = pytest.mark.server

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
TOML = f"""
name = "old-and-new"
[arms.old]
release = "{OLD}"
weight = 1
[arms.new]
release = "{NEW}"
weight = 3
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server of the old one of two finished releases, in the folder of its build."""
    build = tmp_path_factory.mktemp("arms")
    old, new = make_release(build, OLD), make_release(build, NEW)
    for release in (old, new):
        (release / "artifacts").mkdir(exist_ok=True)
        write_manifest(release, {**read_manifest(release), "files": folder_hashes(release)})
    (build / "experiment.toml").write_text(TOML)
    served = build / "served"
    write_served_repository([old], OLD, served, overrides={"store_url": f"lmdb://{build / 'store'}"})
    with TritonServer(served, log=build / "triton.log", backends=build / "backends") as triton:
        yield triton


def run(server: TritonServer, command: str, *arguments: str) -> int:
    build = server.repository.parent
    file = [str(build / "experiment.toml")] if command == "start" else []
    return main([command, *file, *arguments, "--build", str(build), "--address", server.address])


def served_by(server: TritonServer) -> set[str]:
    with server.client() as client:
        models = client.get_model_repository_index(as_json=True)["models"]
    return {model["name"] for model in models if model.get("state") == "READY"}


def test_arms_come_and_go_by_the_command_line(
    server: TritonServer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = served_by(server)
    assert run(server, "start", "--force", "a trial of the command line") == OK
    assert "serving recommend_new: release bbbbbbbbbbbb, for 75.0% of the users" in capsys.readouterr().out
    assert {"recommend_old", "recommend_new", f"pipeline_{OLD}", f"pipeline_{NEW}"} <= served_by(server)
    assert run(server, "stop") == OK
    assert served_by(server) == before


def test_an_arm_that_fails_its_gates_is_not_served(
    server: TritonServer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = served_by(server)
    assert run(server, "start") == FAILED
    printed = capsys.readouterr()
    assert "ndcg_10" in printed.out
    assert f"release {NEW} does not pass ndcg_10" in printed.err
    assert served_by(server) == before


def test_without_a_server_the_command_says_so(
    server: TritonServer, capsys: pytest.CaptureFixture[str]
) -> None:
    build = server.repository.parent
    arguments = [str(build / "experiment.toml"), "--build", str(build), "--address", "127.0.0.1:1"]
    assert main(["start", *arguments]) == FAILED
    assert "127.0.0.1:1" in capsys.readouterr().err
    assert main(["start", *arguments[:1], "--build", str(build / "nowhere")]) == BAD_INPUT
