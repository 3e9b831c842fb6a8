"""What the probes say without a server; tests/k8s/test_executed.py asks real ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tools import probe
from tools.serving.server import Ports


def page(items: list[int], releases: list[int]) -> dict[str, bytes]:
    answer = {"item_id": np.array(items, np.int64).tobytes()}
    return answer | {
        f"{n}_release": np.array([release], np.int64).tobytes() for n, release in enumerate(releases)
    }


def test_a_page_with_an_item_will_do() -> None:
    probe._require_page(page([7, -1, -1], [5, 5]))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (page([-1, -1], [5, 5]), "no item"),
        (page([], []), "no item"),
        (page([7, 8], [5, 6]), "several releases"),
    ],
)
def test_a_page_that_nobody_wants_is_none(answer: dict[str, bytes], reason: str) -> None:
    with pytest.raises(probe.NoPage, match=reason):
        probe._require_page(answer)


@pytest.mark.parametrize("kind", ["--ready", "--live"])
def test_where_nothing_listens_there_is_no_page(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRITONREC_GRPC_PORT", str(Ports.free().grpc))

    assert probe.main([kind, "--timeout=1"]) == probe.NO_PAGE
    assert "UNAVAILABLE" in capsys.readouterr().err


def test_a_server_that_is_not_noted_is_still_starting(tmp_path: Path) -> None:
    with pytest.raises(probe.NoPage, match="still starting"):
        probe.require_stages(tmp_path)


def test_a_stage_that_died_is_noticed_and_other_servers_stages_are_not(tmp_path: Path) -> None:
    (tmp_path / "triton.pid").write_text("7\n")
    processes = {"8": "8 (stub of a stage) S 7 1", "9": "9 (stub) Z 70 1"}
    for process, line in processes.items():
        (tmp_path / process).mkdir()
        (tmp_path / process / "stat").write_text(line)
    probe.require_stages(tmp_path, tmp_path)

    (tmp_path / "8" / "stat").write_text("8 (stub of a stage) Z 7 1")
    with pytest.raises(probe.NoPage, match="1 of the stages' processes died"):
        probe.require_stages(tmp_path, tmp_path)


def test_certificates_that_are_missing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRITONREC_TLS", "server")
    monkeypatch.setenv("TRITONREC_TLS_DIR", str(tmp_path))

    assert probe.main(["--ready"]) == probe.NO_PAGE
    assert str(tmp_path / "ca.crt") in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--ready", "--live"], ["--ready", "--timeout=0"], ["--alive"]])
def test_bad_usage_is_told_from_no_page(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        probe.main(words)

    assert ended.value.code == probe.BAD_USAGE


def test_it_imports_no_more_than_it_needs() -> None:
    program = "import sys; from tools import probe; probe._messages(); print(*sorted(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    ).stdout.split()

    assert "tritonclient.grpc.service_pb2" in modules
    assert not {"numpy", "pydantic", "tritonclient.grpc._client"} & set(modules)
