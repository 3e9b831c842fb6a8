from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tools.bench_channels import BAD_INPUT, OK, main


def rows_of(arguments: list[str], tmp_path: Path) -> list[dict[str, float]]:
    path = tmp_path / "figures.json"
    assert main([*arguments, "--json", str(path)]) == OK
    found: list[dict[str, float]] = json.loads(path.read_text())
    return found


def test_each_channel_and_seed_has_a_row_and_what_people_like_tells_more_than_popularity(
    crowd_config: Path, tmp_path: Path
) -> None:
    arguments = ["--config", str(crowd_config), "--models", "user_knn,popularity", "--seeds", "1,2"]
    rows = rows_of(arguments, tmp_path)
    assert [(row["model"], row["seed"]) for row in rows] == [
        ("user_knn", 1),
        ("popularity", 1),
        ("user_knn", 2),
        ("popularity", 2),
    ]
    for personal, popular in (rows[:2], rows[2:]):
        assert personal["recall_100"] > popular["recall_100"] > 0
        assert all(row["fit s"] > 0 and row["MB"] > 0 and row["ms"] > 0 for row in rows)


def test_nothing_of_what_others_did_finds_items_that_were_removed(crowd_config: Path, tmp_path: Path) -> None:
    (row,) = rows_of(["--config", str(crowd_config), "--models", "item_knn", "--removed", "0.3"], tmp_path)
    assert row["recall_100"] == row["ratio"] == 0
    assert 0 < row["chance"] <= 1


def test_a_made_up_catalogue_has_times_and_sizes_and_no_accuracy(tmp_path: Path) -> None:
    (row,) = rows_of(["--made-up", "300", "--models", "item_knn"], tmp_path)
    assert set(row) == {"model", "seed", "fit s", "MB", "ms"}
    assert np.isfinite([row["fit s"], row["MB"], row["ms"]]).all()


def test_what_cannot_be_fitted_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--made-up", "20001", "--models", "ease"]) == BAD_INPUT
    assert "channels: EASE inverts a matrix" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["--made-up", "0"], ["--made-up", "9", "--models", "oracle"], ["--made-up", "9", "--removed", "1"]],
)
def test_other_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == BAD_INPUT
