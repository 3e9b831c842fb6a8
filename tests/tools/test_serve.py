"""`python tools/serve.py`, as a person runs it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toy_release import RELEASE, make_release

from python_backend.release import Release
from tools import serve
from tools.config.tuning import ModelTuning
from tools.serving.history import read_activations
from tools.serving.repository import write_served_repository
from tools.serving.served import ServedRepository
from tools.serving.server import Ports, TritonServer, ask_anonymously


@contextlib.contextmanager
def serving(build: Path, ports: Ports) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own; ended with the with block if it still runs."""
    command = [sys.executable, serve.__file__, "--build", str(build), "--grpc-port", str(ports.grpc)]
    command += ["--http-port", str(ports.http), "--metrics-port", str(ports.metrics)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def line_of(process: subprocess.Popen[str], start: str) -> str:
    """The next line of the command's output that begins with `start`."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(process.communicate()[1])


@pytest.mark.server
def test_it_serves_says_how_to_ask_and_ends_well_when_it_is_told_to(tmp_path: Path) -> None:
    make_release(tmp_path)
    ports = Ports.free()
    with serving(tmp_path, ports) as process:
        assert RELEASE in line_of(process, "starting Triton")
        assert f"tritonrec recommend --address 127.0.0.1:{ports.grpc}" in line_of(process, "ask it:")

        with TritonServer(tmp_path, log=tmp_path, backends=tmp_path, ports=ports).client() as client:
            assert ask_anonymously(client).as_numpy("item_id").tolist() == [[1, 2, 3, 4, 5]]
        process.send_signal(signal.SIGTERM)

        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == serve.OK
    assert not list(Path("/dev/shm").glob(f"tritonrec_{process.pid}_*"))


@pytest.mark.server
def test_it_ends_with_an_error_when_the_server_dies(tmp_path: Path) -> None:
    make_release(tmp_path)
    with serving(tmp_path, Ports.free()) as process:
        line_of(process, "ask it:")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)

        assert "Triton ended with exit code -9" in process.communicate(timeout=60)[1]
        assert process.returncode == serve.SERVER_TROUBLE


OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


def written(build: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> ServedRepository:
    """What the command writes for a server, which is told to go before it starts."""
    monkeypatch.setattr(TritonServer, "start", lambda server: os.kill(os.getpid(), signal.SIGTERM))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert serve.main(["--build", str(build), *words]) == serve.OK
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return ServedRepository(build / "served")


@pytest.fixture
def two_releases(tmp_path: Path, new_release: Callable[[str], Path]) -> list[Path]:
    """An older and a newer one in `tmp_path`."""
    paths = [new_release(name) for name in (OLD, NEW)]
    os.utime(paths[0] / "manifest.json", (1_600_000_000, 1_600_000_000))
    return paths


def test_the_newest_is_served_first_and_then_the_one_that_is_active(
    tmp_path: Path, two_releases: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert written(tmp_path, monkeypatch).active == NEW
    assert written(tmp_path, monkeypatch, "--release", OLD).active == OLD
    assert written(tmp_path, monkeypatch).active == OLD
    assert written(tmp_path, monkeypatch, "--release", "latest").active == NEW
    assert [(each.release, each.previous) for each in read_activations(tmp_path)] == [
        (NEW, None),
        (OLD, NEW),
        (NEW, OLD),
    ]


def test_the_newest_is_served_where_the_active_one_is_gone(
    tmp_path: Path, two_releases: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, monkeypatch, "--release", OLD)
    shutil.rmtree(two_releases[0])

    assert written(tmp_path, monkeypatch).active == NEW


def test_arms_are_served_again_and_those_whose_release_is_gone_end(
    tmp_path: Path, two_releases: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = {"control": NEW, "bold": OLD}
    write_served_repository(two_releases, NEW, tmp_path / "served", arms=arms)
    assert written(tmp_path, monkeypatch).arms == arms
    shutil.rmtree(two_releases[0])

    served = written(tmp_path, monkeypatch)
    assert served.arms == {"control": NEW}
    assert served.releases == {NEW}


def test_what_a_killed_activation_left_goes_at_the_start(
    tmp_path: Path, two_releases: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = written(tmp_path, monkeypatch, "--release", OLD)
    served.put_release(Release.open(two_releases[1]))
    shutil.rmtree(served.folder / f"recommend_{NEW}")
    (served.folder / f"rank_{NEW}" / "config.pbtxt").write_text("half")
    (tmp_path / ".served.abc").mkdir()
    served.put_probe()

    assert written(tmp_path, monkeypatch).releases == {OLD}
    assert not list(tmp_path.glob(".served.*"))
    assert not list(served.folder.glob("probe_*"))


def test_what_a_machine_was_tuned_to_is_served_unless_it_is_not_wanted(
    tmp_path: Path,
    new_release: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new_release(RELEASE)
    (tmp_path / "tuning.toml").write_text("[pipeline]\ninstances = 3\n")
    (tmp_path / "other.toml").write_text("[pipeline]\ninstances = 4\n")

    assert written(tmp_path, monkeypatch).tuning == {"pipeline": ModelTuning(instances=3)}
    assert f"tuned by {tmp_path / 'tuning.toml'}: pipeline instances 3" in capsys.readouterr().out
    other = ("--tuning", str(tmp_path / "other.toml"))
    assert written(tmp_path, monkeypatch, *other).tuning == {"pipeline": ModelTuning(instances=4)}
    assert written(tmp_path, monkeypatch, "--no-tuning").tuning == {}


def test_a_tuning_that_cannot_be_used_is_explained(
    tmp_path: Path, new_release: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    new_release(RELEASE)
    for path in (tmp_path / "no.toml", tmp_path / "tuning.toml"):
        assert serve.main(["--build", str(tmp_path), "--tuning", str(path)]) == serve.BAD_USAGE
        assert f"{path}: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no release in .*build one with"),
        (["--release", "cccccccccccc"], "no release in"),
        (["--grpc-port", "http"], "'http'; a port is a number from 1 to 65535"),
        (["--port", "1"], "unrecognized arguments"),
    ],
)
def test_bad_usage_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with contextlib.suppress(SystemExit):
        assert serve.main(["--build", str(tmp_path), *arguments]) == serve.BAD_USAGE

    assert re.search(message, capsys.readouterr().err)


def test_a_rules_file_that_is_not_there_is_named(
    tmp_path: Path, new_release: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    new_release(RELEASE)
    status = serve.main(["--build", str(tmp_path), "--rules", str(tmp_path / "rules.toml")])

    assert status == serve.BAD_USAGE
    assert str(tmp_path / "rules.toml") in capsys.readouterr().err


def test_the_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        serve.main(["--help"])

    assert "examples:\n  python tools/serve.py\n" in capsys.readouterr().out


def test_a_profile_is_refused_that_the_release_was_not_built_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_release(tmp_path)

    assert serve.main(["--build", str(tmp_path), "--profile", "gpu_torch"]) == serve.BAD_USAGE

    message = capsys.readouterr().err
    assert f"release {RELEASE} has no artifacts/gpu_torch" in message
    assert "python tools/build_repo.py --config YOURS.toml --profile gpu_torch" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "served").exists()
