"""The comparison with other frameworks, run small: that all sides start, agree, and end in a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import Build

pytestmark = [pytest.mark.server, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients'}"}
PEERS = Path(os.environ.get("PEERS_VENV", ROOT / "build" / "peers" / "venv"))
SIDES = ("tritonrec", "FastAPI", "BentoML", "Ray Serve")


@pytest.fixture(scope="module")
def venv() -> Path:
    if not list(PEERS.glob("installed-*")):
        pytest.skip(f"the peers' virtual environment is missing at {PEERS}: make peers-setup")
    return PEERS


@pytest.mark.timeout(900)
def test_every_framework_gives_the_same_pages_and_is_measured(
    tiny_build: Build, venv: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(ROOT / "tests" / "load" / "peers" / "compare.py"), "--quick"]
    # Whether it works is asked here, on a machine that may be busy: the objective must not fail it.
    command += ["--slo", "p99=2s,errors=5%", "--build", str(tiny_build.output), "--store"]
    command += [tiny_build.config.store.url, "--venv", str(venv), "--out", str(tmp_path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=800, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    found = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    names = {name.partition(",")[0] for name in found["sides"]}
    assert names == set(SIDES)
    assert len(found["sides"]) == 7
    for side in found["sides"].values():
        assert side["capacity"] > 0
        assert 0 < side["p50_ms"] <= side["p99_ms"]
    assert found["ratios"]["ours ÷ best peer documented"]["ratio"] > 0
    assert found["ratios"]["ours ÷ best peer tuned"]["ratio"] > 0
    assert (tmp_path / "comparison.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_without_a_release_nothing_is_started(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "tests" / "load" / "peers" / "compare.py"),
        "--build",
        str(tmp_path),
    ]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "compare.py:" in done.stderr
