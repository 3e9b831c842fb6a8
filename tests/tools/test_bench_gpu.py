"""`python tools/bench_gpu.py`, without a GPU: everything is run, and nothing is said about speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tools import bench_gpu
from tools.bench_gpu import BAD_USAGE, OK, main
from tools.gpu.plan import sections_of

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from tools.bench_gpu import main
sys.exit(main({arguments!r}))
"""


@pytest.mark.server
def test_without_a_gpu_everything_is_run_and_no_speed_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("figures.json", "table.md")]
    words = ["--device", "cpu", "--quick", "--json", str(paths[0]), "--markdown", str(paths[1])]

    status = main(words)

    figures = json.loads(paths[0].read_text())
    assert status == OK, figures["rows"]
    wanted = [row.what for section in sections_of(quick=True) for row in section.rows.values()]
    assert [row["what"] for row in figures["rows"]] == wanted
    verdicts = {row["section"]: set() for row in figures["rows"]}
    for row in figures["rows"]:
        verdicts[row["section"]].add(row["verdict"])
        assert (row["value"] is None) == row["verdict"].startswith("not run"), row
    tried = {"tried only: no GPU"}
    assert verdicts == {
        "copy": tried,
        "parity": {"reached"},
        "retrieval": tried | {"reached"},  # what is found does not depend on the device
        "ranking": tried,
        "serving": tried,
        "tensorrt": {"not run: needs tensorrt"},
    }
    assert figures["machine"]["card"].startswith("none")
    for each in figures["retrieval"]["figures"]:
        assert each["fp16 exact"] == each["int8 exact"] == 1
    out = capsys.readouterr().out
    assert "tried only: no GPU" in out
    assert "served p50 − bare p50" in paths[1].read_text()


def run_without(missing: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own where the modules `missing` cannot be imported."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    code = WITHOUT.format(missing=missing, arguments=list(arguments))
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200
    )


def test_what_the_machine_lacks_is_named_and_the_rest_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    missing = {"onnx", "onnxruntime", "pandas", "pyarrow", "scipy", "locust", "rich", "lmdb", "pytriton"}
    missing |= {"pydantic", "tritonclient", "threadpoolctl", "prometheus_client", "matplotlib"}

    done = run_without(missing, "--device", "cpu", "--quick", "--json", str(path))

    assert done.returncode == OK, done.stderr
    assert "retrieval | FP16, batch 1, 2,000 items" in done.stdout
    rows = json.loads(path.read_text())["rows"]
    verdicts = {row["section"]: row["verdict"] for row in rows}
    assert verdicts["copy"] == "tried only: no GPU"
    assert verdicts["retrieval"] == "reached"
    assert verdicts["parity"] == (
        "not run: needs tritonclient, pandas, pyarrow, scipy, pydantic, lmdb, or a release (--release)"
    )
    assert verdicts["serving"].startswith("not run: needs nvidia-pytriton, tritonclient, pydantic")


def test_where_there_is_no_gpu_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has an NVIDIA GPU")
    assert main([]) == BAD_USAGE
    message = capsys.readouterr().err
    assert message.startswith("bench_gpu.py: needs an NVIDIA GPU")
    assert "--device cpu" in message


def test_a_release_that_is_not_there_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--release", str(tmp_path)]) == BAD_USAGE
    assert "manifest.json" in capsys.readouterr().err


def test_some_sections_alone_are_run(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert main(["--device", "cpu", "--quick", "--sections", "copy", "--json", str(path)]) == OK
    assert [row["section"] for row in json.loads(path.read_text())["rows"]] == ["copy"]


def test_the_goals_are_those_that_were_set() -> None:
    goals = {
        row.what: str(row.goal)
        for section in sections_of(quick=False)
        for row in section.rows.values()
        if row.goal
    }
    of_copy = {what: goal for what, goal in goals.items() if "÷ copy" in what}
    assert {what: goal for what, goal in of_copy.items() if " 1,000,000 items" in what} == {
        f"FP16, batch 1, 1,000,000 items, d = {width}: index bytes ÷ time ÷ copy": "≥ 0.6"
        for width in (64, 128)
    }
    assert sorted(of_copy.values()) == ["≥ 0.6", "≥ 0.6", "≥ 0.8", "≥ 0.8"]
    assert goals["FP16 against matmul + topk, batch 1 to 8: the least"] == "≥ 1.5"
    assert goals["FP16 against matmul + topk, batch 1 to 64: the least"] == "≥ 1"
    assert goals["retrieve and rank as one model, gRPC: served p50 − bare p50"] == "≤ 0.5, better 0.3"
    assert bench_gpu.AT_MOST <= 540
