"""`python tools/tune.py` on real servers, as a person runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import Build
from tritonclient.grpc import InferenceServerClient

from tools.config.tuning import ModelTuning, load_tuning
from tools.serving.repository import write_served_repository
from tools.serving.server import TritonServer, ask_anonymously

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients'}"}


@pytest.mark.server
@pytest.mark.slow
def test_a_quick_sweep_measures_decides_and_writes(tiny_build: Build, tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    for name in ("releases", "store"):
        shutil.copytree(tiny_build.output / name, build / name)
    file = tmp_path / "my-machine.toml"
    file.write_text("[pipeline]\nthreads = 7\n\n[record_event]\nmax_queue_delay_microseconds = 300\n")
    command = [sys.executable, str(ROOT / "tools" / "tune.py"), "--build", str(build), "--quick"]
    command += ["--slo", "p99=900ms,errors=0", "--try", "pipeline.instances=1,2"]
    done = subprocess.run(
        [*command, "--file", str(file)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    report: dict[str, Any] = json.loads((build / "tuning" / "tuning.json").read_text())
    assert report["facts"]["profile"] == "local"
    assert [look["setting"] for look in report["first_looks"]] == [{"pipeline": {"instances": 1}}]
    assert all(look["capacity"] > 0 for look in report["first_looks"])
    assert all(score["capacity"] > 0 for pair in report["rounds_of_shipped"] for score in pair)
    assert "| as shipped: " in (build / "tuning" / "tuning.md").read_text()
    assert report["verdict"] in done.stdout
    # What was not tuned stays; of what was, there is what won, if anything.
    tuning = load_tuning(file)
    assert tuning.pop("record_event") == ModelTuning(max_queue_delay_microseconds=300)
    assert {name: table.values for name, table in tuning.items()} == report["chosen"]


@pytest.mark.server
@pytest.mark.slow
def test_ctrl_c_amid_load_leaves_no_server_and_no_file(tiny_build: Build, tmp_path: Path) -> None:
    file = tmp_path / "tuning.toml"
    command = [sys.executable, str(ROOT / "tools" / "tune.py"), "--build", str(tiny_build.output)]
    process = subprocess.Popen(
        [*command, "--slo", "p99=900ms", "--file", str(file)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(12)  # the first probes of the first server
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "tune.py: stopped; nothing was written\n"
    assert process.returncode == 3
    assert not file.exists()
    assert not list(Path("/dev/shm").glob(f"tritonrec_{process.pid}_*"))


@pytest.mark.server
def test_a_tuned_repository_is_what_triton_serves(tiny_build: Build, tmp_path: Path) -> None:
    tuning = {
        "pipeline": ModelTuning(
            instances=1, threads=2, max_queue_delay_microseconds=500, preferred_batch_size=16
        )
    }
    release = tiny_build.release
    overrides = {"store_url": tiny_build.config.store.url}
    write_served_repository(
        [release.path], release.name, tmp_path / "served", overrides=overrides, tuning=tuning
    )
    served = TritonServer(
        tmp_path / "served",
        log=tmp_path / "triton.log",
        backends=tiny_build.output / "backends",
        models=("recommend",),
    )
    with served as server, InferenceServerClient(server.address) as client:
        config = client.get_model_config(f"pipeline_{release.name}").config
        assert ask_anonymously(client).as_numpy("item_id").shape == (1, release.sizes.results)
    assert [group.count for group in config.instance_group] == [1]
    assert config.parameters["threads"].string_value == "2"
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert list(config.dynamic_batching.preferred_batch_size) == [16]
