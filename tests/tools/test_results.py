"""The tables over several seeds: what they are computed from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tools.evaluation.evaluation import RANK, RERANK, RERANK_DEFAULT, RETRIEVE
from tools.results import quality_table, summary


def release(folder: Path, ranks: dict[str, list[int]], coverage: float) -> Path:
    """As much of a release as the tables look at."""
    (folder / "report").mkdir(parents=True)
    np.savez(folder / "report" / "ranks.npz", **{name: np.array(of) for name, of in ranks.items()})
    headline = {"best_baseline": "EASE", "coverage_20": coverage}
    (folder / "report" / "metrics.json").write_text(json.dumps({"headline": headline}))
    return folder


@pytest.fixture
def releases(tmp_path: Path) -> list[Path]:
    """Two seeds, four users; ranking lifts one user's item from the second place to the first."""
    plain = {RETRIEVE: [0, 1, 0, 700], RANK: [0, 0, 0, 700], RERANK: [0, 0, 0, 700]}
    other = {RETRIEVE: [0, 1, 0, 499], RANK: [0, 0, 0, 499], RERANK: [0, 0, 0, 499]}
    page = {RERANK_DEFAULT: [0, 0, 0, 700], "EASE": [0, 700, 700, 700]}
    return [release(tmp_path / "a", plain | page, 0.5), release(tmp_path / "b", other | page, 0.7)]


def test_there_is_a_row_for_every_seed(releases: list[Path]) -> None:
    _, _, first, second = quality_table([1, 2], releases)
    assert first.startswith("| 1 | a | 0.6577 | 0.7500 | 0.7500 | 0.7500 (")
    assert second.startswith("| 2 | b | 0.6577 | 1.0000 | ")
    assert "| EASE 0.2500 | 3.00 | 50.0% | 0.7500 (+0.0%) |" in first


def test_the_summary_is_the_mean_over_the_seeds(releases: list[Path]) -> None:
    figures = {line.split(" | ")[0].strip("| "): line.split(" | ")[1] for line in summary(releases)}
    assert figures["page NDCG@10, diversity 0"] == "0.7500"
    assert figures["÷ best baseline"] == "3.0000"
    assert figures["rank NDCG@10 ÷ retrieve NDCG@10"] == "1.1403"
    assert figures["rank ÷ retrieve, paired over the seeds (t)"] == "1.1403"
    assert figures["retrieve Recall@500"] == "0.8750"
    assert figures["default page coverage@20"] == "0.6000"
