"""Under three times the load that it can take, a server sheds, keeps its promise to the rest and recovers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_release import RELEASE, make_release

from tools.serving.repository import write_served_repository
from tools.serving.server import TritonServer

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients'}"}
ROW_SECONDS = 0.01
CAPACITY = 160
"""Of two processes that sleep `ROW_SECONDS` a row: 200 rows a second, and some of it goes elsewhere."""

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server whose retriever takes its time, but no processor: the load comes from the same machine."""
    build = tmp_path_factory.mktemp("slow")
    release = make_release(build, RELEASE)
    stage = release / "code" / "python_backend" / "stages" / "retrieve.py"
    text = stage.read_text()
    slow = f"        rows = len(next(iter(inputs.values())))\n        time.sleep({ROW_SECONDS} * rows)\n"
    changed = text.replace("        rows = len(next(iter(inputs.values())))\n", slow)
    assert changed != text
    stage.write_text(changed.replace("import numpy as np\n", "import time\n\nimport numpy as np\n"))
    write_served_repository([release], RELEASE, build / "served")
    with TritonServer(build / "served", log=build / "triton.log", backends=build / "backends") as server:
        yield server


def overload(server: TritonServer, out: Path, *options: str) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / "tests" / "load" / "overload.py"), "--address", server.address]
    command += ["--metrics-port", str(server.ports.metrics), "--users-from", "1-100", "--out", str(out)]
    command += ["--capacity", str(CAPACITY), "--objective", "500", *options]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("burst", "calm"), [("6", "3"), pytest.param("60", "10", marks=pytest.mark.slow)], ids=["short", "minute"]
)
def test_too_much_load_is_shed_and_one_second_later_all_is_well(
    slow_server: TritonServer, tmp_path: Path, burst: str, calm: str
) -> None:
    status, said = overload(slow_server, tmp_path, "--burst", burst, "--calm", calm)

    assert status == 0, said
    found = json.loads((tmp_path / "overload.json").read_text())
    before, during, after = (step["requests"]["recommend"] for step in found["load"]["steps"])
    assert during["arrivals"] > 2.5 * CAPACITY * float(burst)
    assert during["errors"]["REFUSED"] > during["arrivals"] / 3
    assert before["failed"] == after["failed"] == 0
    # Who is refused is told so before the deadline, and not when a timeout of a second ends the wait.
    assert during["failed_after_ms"]["p50"] < 700


@pytest.mark.slow
def test_what_is_missed_is_named_and_is_exit_status_1(slow_server: TritonServer, tmp_path: Path) -> None:
    # Deadlines that nobody needs to keep: everything waits for its turn.
    options = ("--burst", "4", "--calm", "1", "--deadline", "30", "--timeout", "30")
    status, said = overload(slow_server, tmp_path, *options)

    assert status == 1
    assert re.search(r"p99 of what was answered, at most 1000 ms: \d+\.\d ms  MISSED", said)
