"""The load test against a real Triton: its report, its verdict, and that nothing is written unasked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import Build, Server

from python_backend.stores import open_event_log
from tools.serving.server import TritonServer

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients'}"}


def load(
    build: Build, triton: TritonServer | None, out: Path, *options: str
) -> tuple[int, str, dict[str, Any]]:
    """Exit status, what was said, and the report of a load test with `options`."""
    command = [sys.executable, str(ROOT / "tests" / "load" / "load.py"), "--build", str(build.output)]
    command += ["--out", str(out), "--timeout", "20", "--warm-up", "0.5"]
    if triton is not None:
        command += ["--address", triton.address, "--metrics-port", str(triton.ports.metrics)]
    done = subprocess.run(
        [*command, *options], env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False
    )
    report = out / "report.json"
    said = done.stdout + done.stderr
    return done.returncode, said, json.loads(report.read_text()) if report.is_file() else {}


def test_a_load_test_reports_and_passes_its_objective(server: Server, tmp_path: Path) -> None:
    limits = "p99=20s,errors=0,skipped=100%"
    options = ("--rate", "40", "--duration", "3", "--patience", "20", "--slo", limits)
    status, said, report = load(server.build, server.triton, tmp_path, *options)
    assert status == 0, said
    assert report["held"] is True
    (step,) = report["steps"]
    pages = step["requests"]["recommend"]
    assert 80 < pages["arrivals"] == pages["answered"] < 160
    assert 0 < pages["latency_ms"]["p50"] <= pages["latency_ms"]["p99"] <= pages["latency_ms"]["max"]
    # What Triton counted meanwhile: its looks begin and end a moment before and after the step.
    assert {"pipeline", "feature_lookup", "retrieve", "rank", "rerank"} <= set(step["stages"])
    assert step["bottleneck"]["stage"] in step["stages"]
    assert 0 < step["stages"]["rank"]["requests_per_second"] < 80
    assert 0 < step["stages"]["rank"]["utilisation"] <= 1
    assert report["generator"]["cpu_ms_per_request"] > 0
    assert sum(report["over_time"]["arrivals"]) >= pages["arrivals"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") >= 7
    assert "http://" not in page
    assert "https://" not in page
    # Pages alone write nothing.
    assert "record_event" not in step["requests"]


def test_a_missed_objective_is_exit_status_1_and_named(server: Server, tmp_path: Path) -> None:
    options = ("--rate", "40", "--duration", "1", "--slo", "p50=1us,errors=0")
    status, said, report = load(server.build, server.triton, tmp_path, *options)
    assert status == 1, said
    assert "p50=1us: MISSED" in said
    assert "errors=0: held" in said
    assert report["held"] is False


def test_what_is_no_objective_is_exit_status_2(tiny_build: Build, tmp_path: Path) -> None:
    status, said, report = load(tiny_build, None, tmp_path, "--slo", "p99=30")
    assert (status, report) == (2, {})
    assert "p99 takes us, ms or s" in said


def test_events_are_written_where_that_is_asked_for(tiny_build: Build, tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path / 'store'}"
    with tiny_build.triton("served-load", store_url=url) as triton:
        users = f"{tiny_build.known_users[0]}-{tiny_build.known_users[0]}"
        options = ("--mix", "feedback", "--users-from", users, "--rate", "20", "--duration", "1.5")
        status, said, report = load(tiny_build, triton, tmp_path / "out", *options)
        assert status == 0, said
        assert "are written into the store of the server" in said
        events = report["steps"][0]["requests"]["record_event"]
        assert events["answered"] > 0
        assert events["failed"] == 0
    log = open_event_log(url)
    written = [event for _, event in log.read()]
    log.close()
    assert len(written) >= events["answered"]
    assert {event.release for event in written} == {tiny_build.release.name}
    assert min(event.user_id for event in written) >= 0
