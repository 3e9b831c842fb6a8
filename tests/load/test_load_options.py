from __future__ import annotations

import argparse
import socket
from pathlib import Path

import numpy as np
import pytest
from arguments import BadOptions, add_arguments, audience, setting, steps
from target import NoTargetError, target

from tools.load.schedule import Step


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_there_is_a_step_per_rate_after_a_warm_up_that_does_not_count() -> None:
    wanted = steps(options("--rate", "50,100", "--duration", "20", "--warm-up", "3"))
    assert wanted == [Step(50, 3, counted=False), Step(50, 20), Step(100, 20)]
    assert steps(options("--rate", "50", "--duration", "20", "--warm-up", "0")) == [Step(50, 20)]


@pytest.mark.parametrize("text", ["0", "-3", "ten", "50,", "nan"])
def test_a_rate_is_a_number_above_0(text: str) -> None:
    with pytest.raises(argparse.ArgumentError, match="a rate is a number above 0"):
        options(f"--rate={text}")


def test_shares_are_written_as_percentages_or_numbers() -> None:
    assert options("--unknown", "5%").unknown == options("--unknown", "0.05").unknown == 0.05
    with pytest.raises(argparse.ArgumentError, match="a share is 0 to 1 or 0% to 100%"):
        options("--anonymous", "120%")


def test_nothing_is_written_unless_that_is_asked_for() -> None:
    assert options().mix == "recommend"


def test_users_may_be_named_where_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match="name some with --users-from"):
        audience(options("--build", str(tmp_path)))
    found = audience(options("--build", str(tmp_path), "--users-from", "1-943"))
    assert np.array_equal(found.users, np.arange(1, 944))
    assert len(found.items) == 0


def test_the_report_says_what_was_asked_for() -> None:
    shown = setting(options("--rate", "70", "--zipf", "0.8", "--seed", "5"))
    assert (shown.address, shown.mix) == ("127.0.0.1:8001", "recommend")
    assert {"rate": "[70.0]", "zipf": "0.8", "seed": "5"}.items() <= shown.options.items()


def test_a_server_that_runs_is_left_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with target(options("--address", address, "--build", str(tmp_path)), print) as started:
            assert not started


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("8001", "it must be HOST:PORT"),
        ("no-such-host.invalid:8001", "only started on this machine"),
        ("127.0.0.1:1", "there is no folder"),
    ],
)
def test_where_no_server_runs_and_none_can_be_started_it_says_why(
    address: str, words: str, tmp_path: Path
) -> None:
    wanted = options("--address", address, "--build", str(tmp_path / "nothing"))
    with pytest.raises(NoTargetError, match=words), target(wanted, lambda _: None):
        pass
