"""The measurement of robust training, on a made-up shop: what it writes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from tools.bench_robustness import CLEAN, USUAL, main
from tools.evaluation.perturbations import PERTURBATIONS

TOML = """
name = "shop"
[data.events]
path = "{folder}/events.csv"
user = "user"
item = "item"
timestamp = "time"
[contract]
history = 12
candidates = 20
results = 5
[retrieve]
width = 8
blocks = 1
heads = 2
epochs = 30
batch = 8
learning_rate = 0.02
"""


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def config(tmp_path: Path) -> str:
    random = np.random.default_rng(0)
    lines = ["user,item,time"]
    for user in range(20):
        items = (random.integers(30) + random.integers(1, 3, random.integers(5, 12)).cumsum()) % 30
        lines += [f"{user},{item},{place}" for place, item in enumerate(items)]
    (tmp_path / "events.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "shop.toml").write_text(TOML.format(folder=tmp_path))
    return str(tmp_path / "shop.toml")


def test_every_training_is_told_for_every_kind_of_history(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", config, "--epochs", "6", "--output", str(tmp_path / "out"), "--seeds", "1", "2"]
    assert main(words) == 0
    found = json.loads((tmp_path / "out" / "robustness.json").read_text())
    trained = found["trained"]
    assert list(trained) == [USUAL, "adversary 0.1", "smoothing 0.1", "history dropout 0.2", "together"]
    assert trained["together"]["robust"] == {
        "adversarial_epsilon": 0.1,
        "adversarial_weight": 1.0,
        "adversarial_from_epoch": 4,
        "label_smoothing": 0.1,
        "history_dropout": 0.2,
    }
    for outcome in trained.values():
        assert list(outcome["histories"]) == [CLEAN, *PERTURBATIONS]
    for row in trained[USUAL]["histories"].values():
        assert row["recall_500"]["mean"] == 1  # all 30 items
        assert row["ndcg_10_difference"] == {"mean": 0, "low": 0, "high": 0}
    scores = {row["ndcg_10"]["mean"] for each in trained.values() for row in each["histories"].values()}
    assert len(scores) > 10
    ElementTree.parse(tmp_path / "out" / "robustness.svg")
    said = capsys.readouterr().out
    assert "the retriever on validation items" in said
    assert "robustness.json" in said


def test_values_that_cannot_be_are_refused(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", config, "--smoothing", "1.5"]) == 2
    assert "label_smoothing" in capsys.readouterr().err
    assert main(["--config", config, "--weight", "0"]) == 2
    assert "adversarial_weight is 0; allowed: both above 0" in capsys.readouterr().err
