"""`tools/serve_pod.py` where it cannot serve; tests/k8s/test_executed.py runs it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toy_release import RELEASE

from tools import serve_pod


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(folder: Path) -> int:
    return serve_pod.main(
        [f"--build={folder}", f"--release-file={folder / 'release'}", f"--run={folder / 'run'}"]
    )


def test_settings_that_are_missing_are_all_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("TRITONREC_STORE", "TRITONREC_CONTROL_KEY"):
        monkeypatch.delenv(name, raising=False)

    assert run(tmp_path) == serve_pod.BAD_USAGE
    complaint = capsys.readouterr().err
    assert "TRITONREC_STORE: is missing" in complaint
    assert "TRITONREC_CONTROL_KEY: is missing" in complaint


@pytest.mark.parametrize("noted", [None, "cccccccccccc"])
def test_a_release_that_is_not_there_is_named(
    noted: str | None,
    tmp_path: Path,
    new_release: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new_release(RELEASE)
    monkeypatch.setenv("TRITONREC_STORE", "lmdb:///store")
    monkeypatch.setenv("TRITONREC_CONTROL_KEY", "0123456789abcdef")
    if noted:
        (tmp_path / "release").write_text(noted)

    assert run(tmp_path) == serve_pod.BAD_USAGE
    assert (noted or str(tmp_path / "release")) in capsys.readouterr().err


def test_a_tuning_need_not_be_there_but_must_be_one_where_it_is(
    tmp_path: Path,
    new_release: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new_release(RELEASE)
    tuning = tmp_path / "tuning.toml"
    for name, value in (
        ("STORE", "redis://127.0.0.1:1/0"),
        ("CONTROL_KEY", "0123456789abcdef"),
        ("TUNING", str(tuning)),
    ):
        monkeypatch.setenv(f"TRITONREC_{name}", value)
    (tmp_path / "release").write_text(RELEASE)
    assert serve_pod._tuning(tuning) == {}

    tuning.write_text("[pipeline]\ninstance = 3\n")
    assert run(tmp_path) == serve_pod.BAD_USAGE
    assert "did you mean 'instances'?" in capsys.readouterr().err


def test_shared_memory_of_a_server_that_was_killed_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that starts again keeps its pod's folders, and /dev/shm is one of them."""
    monkeypatch.setenv("TRITONREC_STORE", "lmdb:///store")
    monkeypatch.setenv("TRITONREC_CONTROL_KEY", "0123456789abcdef")
    shared = tmp_path / "shm"
    shared.mkdir()
    monkeypatch.setattr(serve_pod, "SHARED_MEMORY", shared)
    for name in ("tritonrec_1_abcd-1", "tritonrec_1_abcd-2", "tritonrec_1_ef01-1"):
        (shared / name).touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / serve_pod.SHARED).write_text("tritonrec_1_abcd")

    assert run(tmp_path) == serve_pod.BAD_USAGE  # there is no release
    assert [path.name for path in shared.iterdir()] == ["tritonrec_1_ef01-1"]
