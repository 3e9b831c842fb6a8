"""The table of models of a release, from a running Triton."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import Build, write_shop

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


CHANNELS = ("transformer", "gru", "item_knn", "user_knn", "popularity")
RANKERS = ("main", "logistic", "neumf")


@pytest.mark.slow
def test_every_channel_and_ranker_is_built_served_and_in_the_table(tmp_path: Path) -> None:
    build = write_shop(tmp_path)
    sections = [f'[[channels]]\nmodel = "{model}"\nquota = 60' for model in CHANNELS]
    sections += [f'[[rankers]]\nmodel = "{model}"' for model in RANKERS]
    text = "\n\n".join([build.toml.read_text(encoding="utf-8"), *sections])
    build.toml.write_text(text.replace('"gru"', '"gru"\nepochs = 2'), encoding="utf-8")
    assert main(["--config", str(build.toml), "--out", str(tmp_path / "table"), "--repeats", "1"]) == OK
    table = json.loads((tmp_path / "table" / "table.json").read_text(encoding="utf-8"))
    assert [(row["name"], row["kind"]) for row in table["rows"]] == [
        *((name, "channel") for name in CHANNELS),
        ("merge", "merge"),
        *((name, "ranker") for name in RANKERS),
        ("blend", "blend"),
    ]
    for row in table["rows"]:
        assert row["agreement"]["holds"]
        assert (row["training_seconds"] is None) == (row["kind"] in ("merge", "blend"))
        assert (row["clicks"] is None) == (row["kind"] != "ranker")
    assert set(table["merged"]["recall"]) == set(CHANNELS)
    assert table["merged"]["ranked"]["difference"]["low"] <= table["merged"]["ranked"]["difference"]["high"]
    assert [bucket["events"] for bucket in table["few_events"]["buckets"]] == [0, 1, 2, 4]
