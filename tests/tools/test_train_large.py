"""Training a large model, alone and in real processes that torchrun starts (gloo, on the CPU)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tools.memory import descendants
from tools.train_large import main

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "tools" / "train_large.py")
PATIENCE = 120.0
TOML = """
name = "shop"
[data.events]
path = "{folder}/events.csv"
user = "user"
item = "item"
timestamp = "time"
[store]
url = "lmdb://{folder}/store"
[contract]
history = 12
candidates = 20
results = 5
[retrieve]
width = 8
blocks = 1
heads = 2
dropout = {dropout}
epochs = {epochs}
batch = 8
[distributed]
save_every = 4
log_every = 10
"""


@pytest.fixture(scope="module", autouse=True)
def _torch_as_before() -> Iterator[None]:
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events, of which many share their time."""
    folder, random = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    lines = ["user,item,time"]
    for user in range(40):
        items = (random.integers(30) + random.integers(1, 3, random.integers(5, 30)).cumsum()) % 30
        lines += [f"{user},{item},{place // 2}" for place, item in enumerate(items)]
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    return folder


def config_in(shop: Path, *, dropout: float = 0.0, epochs: int = 4, more: str = "") -> str:
    path = shop / f"shop-{dropout}-{epochs}-{len(more)}.toml"
    path.write_text(TOML.format(folder=shop, dropout=dropout, epochs=epochs) + more)
    return str(path)


def curve_of(output: Path, name: str = "shop") -> list[dict[str, float]]:
    return json.loads((output / "large" / name / "curve.json").read_text())


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def start_two(*runs: list[str]) -> list[subprocess.Popen[str]]:
    """Two processes that train together, without torchrun; they make one run after the other."""
    script = (
        "import json, os, sys\n"
        "from tools.train_large import main\n"
        "for port, run in zip(sys.argv[1].split(), json.loads(sys.argv[2]), strict=True):\n"
        "    os.environ['MASTER_PORT'] = port\n"
        "    assert main(run) == 0\n"
    )
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in runs]
    ports = " ".join(str(each.getsockname()[1]) for each in sockets)
    for each in sockets:
        each.close()
    ranks = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", script, ports, json.dumps(runs)],
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **ranks),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]


def finish(process: subprocess.Popen[str]) -> str:
    """What the process has printed when it has ended well."""
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, text
    return text


def wait_for(path: Path, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, "it has ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.002)


LONG_RUN = {"dropout": 0.1, "epochs": 10}
"""Long enough to be killed in the middle; with dropout, which each process draws by itself."""


SOFT = "[retrieve.robust]\nlabel_smoothing = 0.1\nhistory_dropout = 0.2\n"
HARD = "[retrieve.robust]\nadversarial_epsilon = 0.1\nadversarial_weight = 1.0\n"


@pytest.fixture(scope="module")
def undisturbed(shop: Path) -> tuple[list[dict[str, float]], ...]:
    """What two processes learned: in a short run without dropout, in the long one, and in two robust ones."""
    configs = [
        config_in(shop),
        config_in(shop, **LONG_RUN),
        config_in(shop, epochs=2, more=SOFT),
        config_in(shop, epochs=2, more=HARD),
    ]
    outputs = [shop / str(number) for number in range(len(configs))]
    runs = [
        ["--config", path, "--output", str(output)] for path, output in zip(configs, outputs, strict=True)
    ]
    said = [finish(process) for process in start_two(*runs)]
    assert "2 processes on cpu" in said[0]
    assert said[1] == ""  # one of them speaks for all
    return tuple(curve_of(output) for output in outputs)


def test_two_processes_with_half_of_each_batch_make_the_steps_of_one(
    shop: Path, undisturbed: tuple[list[dict[str, float]], ...], tmp_path: Path
) -> None:
    assert main(["--config", config_in(shop), "--output", str(tmp_path)]) == 0
    alone = [row["loss"] for row in curve_of(tmp_path)]
    assert [row["loss"] for row in undisturbed[0]] == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(("number", "more", "near"), [(2, SOFT, 1e-5), (3, HARD, 0.05)])
def test_they_train_robustly_too(
    shop: Path,
    undisturbed: tuple[list[dict[str, float]], ...],
    tmp_path: Path,
    number: int,
    more: str,
    near: float,
) -> None:
    """The worst steps are those of each one's own half of a batch: near those of the whole."""
    assert main(["--config", config_in(shop, epochs=2, more=more), "--output", str(tmp_path)]) == 0
    alone = [row["loss"] for row in curve_of(tmp_path)]
    assert [row["loss"] for row in undisturbed[number]] == pytest.approx(alone, rel=near)


def test_torchrun_goes_on_from_the_checkpoint_after_the_kill_of_one_process(
    shop: Path, undisturbed: tuple[list[dict[str, float]], ...], tmp_path: Path
) -> None:
    words = ["--nproc-per-node", "2", "--max-restarts", "1", "--master-port", "0", "--standalone"]
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", *words),
            *(SCRIPT, "--config", config_in(shop, **LONG_RUN), "--output", str(tmp_path)),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        wait_for(tmp_path / "large" / "shop" / "checkpoint.pt", run)
        _, *workers = descendants(run.pid)
        assert len(workers) == 2
        os.kill(workers[-1], signal.SIGKILL)
        said = finish(run)
    assert "going on from" in said
    assert curve_of(tmp_path) == undisturbed[1]


@pytest.mark.slow
def test_the_same_command_goes_on_after_the_kill_of_every_process(
    shop: Path, undisturbed: tuple[list[dict[str, float]], ...], tmp_path: Path
) -> None:
    words = ["--config", config_in(shop, **LONG_RUN), "--output", str(tmp_path)]
    checkpoint = tmp_path / "large" / "shop" / "checkpoint.pt"
    for _ in range(3):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        both = start_two(words)
        wait_for(checkpoint, both[0])
        while checkpoint.stat().st_mtime_ns == before:
            time.sleep(0.002)
        for process in both:
            process.kill()
        for process in both:
            process.communicate()
    alone = tmp_path / "alone"
    shutil.copytree(tmp_path / "large", alone / "large")
    said = [finish(process) for process in start_two(words)]
    assert "going on from" in said[0]
    assert curve_of(tmp_path) == undisturbed[1]
    # One process goes on from what two have left, too; it only drops out something else.
    assert main([*words[:-1], str(alone)]) == 0
    losses = [[row["loss"] for row in curve] for curve in (curve_of(alone), undisturbed[1])]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_finished_model_is_not_trained_again_and_belongs_to_its_configuration(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--output", str(tmp_path), "--config"]
    assert main([*words, config_in(shop, epochs=1)]) == 0
    folder = tmp_path / "large" / "shop"
    assert sorted(path.name for path in folder.iterdir()) == ["curve.json", "model.pt"]
    written = (folder / "model.pt").stat()
    capsys.readouterr()
    # How processes work may change, what is learned may not.
    assert main([*words, config_in(shop, epochs=1, more="accumulate = 2\n")]) == 0
    assert "trained already" in capsys.readouterr().out
    assert main([*words, config_in(shop, epochs=2)]) == 1
    assert "model.pt: belongs to another run: retrieve.epochs was 1, is 2" in capsys.readouterr().err
    assert (folder / "model.pt").stat().st_mtime_ns == written.st_mtime_ns
    assert main([*words, config_in(shop, epochs=2), "--fresh"]) == 0
    assert len(curve_of(tmp_path)) == 2


def test_a_model_for_validation_is_measured_and_kept_apart(shop: Path, tmp_path: Path) -> None:
    assert main(["--config", config_in(shop), "--output", str(tmp_path), "--validate"]) == 0
    assert 0 <= curve_of(tmp_path, "shop-validate")[-1]["validation_ndcg_10"] <= 1


def test_a_step_can_be_tried_without_writing_anything(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", config_in(shop), "--output", str(tmp_path), "--try-step", "--batch", "2"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "a step on the 2 longest windows of 12 items" in said
    assert "GiB" in said
    assert list(tmp_path.iterdir()) == []


def test_a_large_model_with_a_teacher_is_refused(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_in(shop, more='[retrieve.distil]\nteacher = "model.pt"\n')
    assert main(["--config", config, "--output", str(tmp_path)]) == 2
    assert "retrieve.distil: a large model has no teacher" in capsys.readouterr().err


@pytest.mark.slow
def test_the_large_configuration_makes_a_real_step_in_six_gibibytes(
    shop: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """151 million parameters, forward, backward and optimiser, on histories of 512 items."""
    text = (ROOT / "tools" / "config" / "large.toml").read_text()
    model = text[text.index("[contract]") :].replace("user_features = 3", "")
    events = TOML.format(folder=shop, dropout=0, epochs=1).partition("[contract]")[0]
    path = tmp_path / "large.toml"
    path.write_text(events.replace("events.csv", "long.csv") + model)
    lines = [f"0,{item},{item}" for item in range(600)]
    (shop / "long.csv").write_text("\n".join(["user,item,time", *lines]) + "\n")
    words = ["--config", str(path), "--output", str(tmp_path), "--try-step", "--batch", "1"]
    said = finish(
        subprocess.Popen(
            [sys.executable, SCRIPT, *words], env=environment(), stdout=subprocess.PIPE, text=True
        )
    )
    assert "a step on the 1 longest windows of 512 items" in said
    assert float(said.rpartition("at most ")[2].split()[0]) < 6
