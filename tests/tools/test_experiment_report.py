"""The command line that reports on an experiment, on a real event log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tritonrec_client.contract import Event
from tritonrec_client.experiment import Experiment

from python_backend.stores import UserEvent, open_event_log
from tools.experiment import BAD_INPUT, EXAMPLES, FAILED, OK, main

RELEASES = {"old": "aaaaaaaaaaaa", "new": "bbbbbbbbbbbb"}
TOML = """
name = "two-arms"
[arms.old]
release = "aaaaaaaaaaaa"
weight = 0.5
[arms.new]
release = "bbbbbbbbbbbb"
weight = 0.5
"""
JANUARY, FEBRUARY = 1_767_225_600, 1_769_904_000
USERS, VIEWS = 120, 10


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.toml"
    path.write_text(TOML)
    return path


@pytest.fixture
def store(tmp_path: Path, experiment: Path) -> str:
    """A log of users with ten views in January and one in February; more is clicked in the second arm."""
    url = f"lmdb://{tmp_path / 'build' / 'store'}"
    arm_of = Experiment.load(experiment).arm_of
    events: list[UserEvent] = []
    for user in range(USERS):
        release = RELEASES[arm_of(user)]
        clicks = 1 + user % 3 + 2 * (release == RELEASES["new"])
        kinds = [*VIEWS * [Event.VIEW], *clicks * [Event.CLICK], Event.SKIP]
        times = [*(len(kinds) * [JANUARY]), FEBRUARY]
        for kind, time in zip([*kinds, Event.VIEW], times, strict=True):
            event_id = len(events).to_bytes(16, "big")
            events.append(UserEvent(user, 7, kind, time, event_id, None if kind == Event.SKIP else release))
    with open_event_log(url) as log:
        log.record(events)
    return url


def test_a_report_says_what_each_arm_has(
    experiment: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(experiment), "--store", store, "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    old, new = found["arms"]
    assert old["users"] + new["users"] == USERS
    assert old["views"] == 11 * old["users"]
    assert new["ctr_ratio"]["low"] > 1
    assert found["elsewhere"] == {"no page": USERS}


def test_the_report_for_people_names_arms_releases_and_what_is_left_out(
    experiment: Path, tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(experiment), "--build", str(tmp_path / "build")]) == OK
    text = capsys.readouterr().out
    for words in ("two-arms", *RELEASES.values(), "CTR ÷ the first arm's", "120 events belong to no arm"):
        assert words in text


def test_only_events_since_a_time_are_counted(
    experiment: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(experiment), "--store", store, "--json", "--since", "2026-02-01"]) == OK
    assert sum(arm["views"] for arm in json.loads(capsys.readouterr().out)["arms"]) == USERS
    later = "2026-02-01T01:00:00+00:30"  # half an hour after midnight in UTC
    assert main(["report", str(experiment), "--store", store, "--json", "--since", later]) == OK
    assert sum(arm["views"] for arm in json.loads(capsys.readouterr().out)["arms"]) == 0


def test_a_picture_is_written(experiment: Path, store: str, tmp_path: Path) -> None:
    picture = tmp_path / "ctr.svg"
    assert main(["report", str(experiment), "--store", store, "--plot", str(picture)]) == OK
    assert "<svg" in picture.read_text()


def test_a_picture_of_nothing_is_refused(
    experiment: Path, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "ctr.svg"
    arguments = ["report", str(experiment), "--store", store, "--since", "2027-01-01", "--plot", str(picture)]
    assert main(arguments) == BAD_INPUT
    assert "--plot: no arm has a click-through rate" in capsys.readouterr().err
    assert not picture.exists()


def test_a_log_that_cannot_be_reached_is_said(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(experiment), "--store", "redis://127.0.0.1:1/0"]) == FAILED
    assert "127.0.0.1:1" in capsys.readouterr().err
    assert main(["report", str(experiment), "--store", "ftp://somewhere"]) == BAD_INPUT


def test_a_log_without_events_is_named_because_it_may_be_the_wrong_one(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(experiment), "--store", f"lmdb://{tmp_path / 'nowhere'}"]) == OK
    assert f"no such events in lmdb://{tmp_path / 'nowhere'}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["start", "report"])
def test_a_file_that_is_no_experiment_is_refused(
    experiment: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.write_text(TOML.replace("weight = 0.5", "share = 0.5", 1))
    assert main([command, str(experiment)]) == BAD_INPUT
    assert f"{experiment}: arms.old.share" in capsys.readouterr().err


def test_an_arm_of_no_release_is_refused(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["start", str(experiment), "--build", str(tmp_path)]) == BAD_INPUT
    assert "no release in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["report"], ["report", "x", "--since", "yesterday"], ["start", "x", "--force", " "]]
)
def test_arguments_that_mean_nothing_end_with_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == BAD_INPUT


def test_the_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert EXAMPLES.strip() in capsys.readouterr().out
