"""Whether merging pays, measured on many events of users whom the rankers have not met."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tools.bench_merging import BAD_INPUT, MERGED, OK, SINGLE, compared, main, means_of_users
from tools.evaluation.metrics import ABSENT

USERS = np.repeat(np.arange(40), 5)


def places(single: int, merged: int) -> dict[tuple[str, str], np.ndarray]:
    """Every item that came next at these places, before ranking and after it."""
    return {
        (way, stage): np.full(len(USERS), place)
        for way, place in ((SINGLE, single), (MERGED, merged))
        for stage in ("retrieved", "ranked")
    }


def test_a_user_counts_once_however_many_events_there_are_of_one() -> None:
    assert means_of_users(np.array([1.0, 0.0, 0.0, 4.0]), np.array([7, 7, 7, 2])).tolist() == [4.0, 1 / 3]


def test_a_better_place_is_a_gain_that_the_interval_shows() -> None:
    found = compared(places(single=5, merged=0), USERS)
    gap = found["ranked NDCG@10"]["difference"]
    assert found["ranked NDCG@10"][MERGED] == 1
    assert gap["low"] > 0
    assert found["ranked recall"]["difference"] == {"mean": 0, "low": 0, "high": 0}
    assert (found["users"], found["events"]) == (40, 200)


def test_what_was_not_found_counts_as_not_found() -> None:
    found = compared(places(single=0, merged=ABSENT), USERS)
    assert found["retrieved recall"][MERGED] == 0
    assert found["retrieved recall"]["difference"]["high"] < 0


def test_both_are_judged_by_the_same_events_and_the_test_items_stay_out(
    crowd_config: Path, tmp_path: Path
) -> None:
    with crowd_config.open("a") as file:
        file.write("[retrieve]\nwidth = 16\nepochs = 1\n[rank]\nwidth = 8\nepochs = 1\nneighbours = 8\n")
    path = tmp_path / "figures.json"
    arguments = ["--config", str(crowd_config), "--channels", "transformer,item_knn", "--groups", "2"]
    assert main([*arguments, "--json", str(path)]) == OK
    found = json.loads(path.read_text())
    events = (crowd_config.parent / "events.csv").read_text().count("\n") - 1
    assert found["channels"] == ["transformer", "item_knn"]
    # Three tenths of each user's events but the last.
    assert 0 < found["events"] < 0.4 * events
    for stage in ("retrieved", "ranked"):
        for name in ("NDCG@10", "recall"):
            row = found[f"{stage} {name}"]
            assert 0 <= row[SINGLE] <= 1
            assert row[MERGED] - row[SINGLE] == pytest.approx(row["difference"]["mean"])
    # A ranker changes the order of what was retrieved and nothing else.
    for way in (SINGLE, MERGED):
        assert found["retrieved recall"][way] == found["ranked recall"][way]


@pytest.mark.parametrize("channels", ["oracle", "ease,item_knn", "transformer,gru,gru", ""])
def test_channels_that_cannot_be_merged_are_refused(channels: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--config", "any.toml", "--channels", channels])
    assert stopped.value.code == BAD_INPUT


@pytest.mark.parametrize(
    ("more", "arguments", "said"),
    [
        ('[[channels]]\nmodel = "transformer"\nquota = 20\n', [], "channels, rankers: found some"),
        ("", ["--evidence", "-1"], "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_is_trained(
    crowd_config: Path, more: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with crowd_config.open("a") as file:
        file.write(more)
    assert main(["--config", str(crowd_config), *arguments]) == BAD_INPUT
    assert said in capsys.readouterr().err


def test_a_configuration_that_is_not_there_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "nowhere.toml"]) == BAD_INPUT
    assert "nowhere.toml" in capsys.readouterr().err
