"""The table of models of a release, from a running Triton."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import Build

from tools.model_table import BAD_INPUT, OK, main

pytestmark = pytest.mark.server


def test_every_model_of_a_release_is_asked_on_triton_and_answers_as_it_does_here(
    tiny_build: Build, tmp_path: Path
) -> None:
    release = tiny_build.release
    arguments = ["--config", str(tiny_build.toml), "--release", str(release.path), "--out", str(tmp_path)]
    assert main([*arguments, "--repeats", "1"]) == OK
    table = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in table["rows"]] == ["retrieve", "rank"]
    for row in table["rows"]:
        assert row["agreement"]["holds"]
        assert row["latency_ms"]["p50"] > 0
        assert row["bytes"] > 1000
    report = json.loads((release.path / "report" / "metrics.json").read_text(encoding="utf-8"))
    for row, stage in zip(table["rows"], ("retrieve", "rank"), strict=True):
        assert row["ndcg_10"]["mean"] == pytest.approx(report["methods"][stage]["ndcg_10"]["mean"])
    assert "<html" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_release_that_is_not_there_is_told_in_a_line(
    tiny_build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none"
    assert main(["--config", str(tiny_build.toml), "--release", str(missing)]) == BAD_INPUT
    assert str(missing) in capsys.readouterr().err
